package testhost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// scriptLimit is longer than any script of a test takes, installing packages included.
const scriptLimit = 5 * time.Minute

// Output is what a script on a host left behind.
type Output struct {
	Stdout, Stderr string
	ExitCode       int
}

// Run runs a shell script as root on the host, by entering its namespaces and
// not over SSH: it works whatever a test does to sshd or the network. A status
// other than 0 is in Output, not an error. A script has scriptLimit at most: one
// that waits for what never comes fails its test and not the whole run.
func (h *Host) Run(ctx context.Context, script string) (Output, error) {
	ctx, cancel := context.WithTimeout(ctx, scriptLimit)
	defer cancel()
	leader := h.machine.leader()
	if leader == 0 {
		return Output{}, fmt.Errorf("run a script on %s: the host is off", h.options.Hostname)
	}
	// logind refuses to serve processes of a cgroup outside the host's.
	procs, err := h.slot.makeCgroup("payload/harness")
	if err != nil {
		return Output{}, err
	}
	cmd := enterCgroups(ctx, procs, "nsenter", "--target", strconv.Itoa(leader),
		"--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root",
		"env", "--ignore-environment", "--chdir=/root", "HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/bash", "LANG=C.UTF-8",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "sh", "-c", script)
	// nsenter forks to enter the process namespace: its child is to end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	// What the script left running in the background may hold its output open.
	cmd.WaitDelay = 5 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	out := Output{Stdout: stdout.String(), Stderr: stderr.String(), ExitCode: cmd.ProcessState.ExitCode()}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && ctx.Err() == nil {
		err = nil
	}
	if err != nil {
		return out, fmt.Errorf("run a script on %s: %w", h.options.Hostname, errors.Join(err, ctx.Err()))
	}
	return out, nil
}

// Sh runs a script as Run does and returns its standard output, trimmed. The
// test fails when the script does.
func (h *Host) Sh(t testing.TB, script string) string {
	t.Helper()
	out, err := h.Run(t.Context(), script)
	if err != nil {
		t.Fatal(err)
	}
	if out.ExitCode != 0 {
		t.Fatalf("on %s: exit status %d from: %s\nstdout: %s\nstderr: %s", h.options.Hostname, out.ExitCode, script, out.Stdout, out.Stderr)
	}
	return strings.TrimSpace(out.Stdout)
}

// ShAs is Sh as another user, with the environment of a login: their user
// manager is reached when they linger.
func (h *Host) ShAs(t testing.TB, user, script string) string {
	t.Helper()
	uid := h.Sh(t, "id -u "+user)
	return h.Sh(t, fmt.Sprintf("cd / && exec runuser -u %s -- env HOME=\"$(getent passwd %[1]s | cut -d: -f6)\" XDG_RUNTIME_DIR=/run/user/%s DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/%[2]s/bus sh -c %s",
		user, uid, shellQuote(script)))
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
