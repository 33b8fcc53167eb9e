// Package localhost is the hostcfg.Host for the machine that we run on. It
// owns running scripts and replacing files here; becoming root is not its
// affair: without root, what needs root fails as the kernel says.
package localhost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/nationtech/fleetctl/hostcfg"
	"github.com/nationtech/fleetctl/internal/hint"
)

// defaultTimeout is for commands that set none.
const defaultTimeout = 10 * time.Minute

// killDelay is what a script gets to clean up after SIGTERM.
const killDelay = 3 * time.Second

// Host is this machine.
type Host struct{ log *slog.Logger }

// New returns this machine as a host. A nil log logs nothing.
func New(log *slog.Logger) *Host {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Host{log: log}
}

// Name is "localhost".
func (*Host) Name() string { return "localhost" }

// Elevation is "root", or "" for anybody else.
func (*Host) Elevation() string {
	if os.Geteuid() == 0 {
		return "root"
	}
	return ""
}

// loader reads the script from descriptor 3: it may hold secrets, so it is in
// no argument, and standard input is the caller's.
const loader = `script=$(cat <&3); exec 3<&-; eval "$script"`

// Run runs a script with sh in a process group of its own. When ctx ends the
// whole group gets SIGTERM, and SIGKILL a little later.
func (h *Host) Run(ctx context.Context, c hostcfg.Command) (hostcfg.Result, error) {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no end after %s", timeout))
	defer cancel()
	argv := []string{"sh", "-c", loader}
	if c.User != "" {
		argv = append([]string{"runuser", "-u", c.User, "--"}, argv...)
	}
	script, feed, err := os.Pipe()
	if err != nil {
		return hostcfg.Result{}, fmt.Errorf("run script: %w", err)
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.ExtraFiles = []*os.File{script}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = killDelay
	start := time.Now()
	err = cmd.Start()
	_ = script.Close() // the child has its own copy
	if err != nil {
		_ = feed.Close()
		return hostcfg.Result{}, fmt.Errorf("run script: %w", err)
	}
	go func() { // a script may be larger than the pipe's buffer
		_, _ = io.WriteString(feed, c.Script) // fails only when the shell is gone, which Wait reports
		_ = feed.Close()
	}()
	err = cmd.Wait()
	if ctx.Err() != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // whatever ignored SIGTERM
		return hostcfg.Result{}, fmt.Errorf("run script: %w; last output: %q", context.Cause(ctx), lastOf(stderr.Bytes()))
	}
	h.log.Debug("ran a script", "host", h.Name(), "op", "run", "seconds", time.Since(start).Seconds())
	res := hostcfg.Result{Stdout: stdout.Bytes(), Stderr: stderr.Bytes()}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		res.ExitCode = exit.ExitCode()
		if res.ExitCode < 0 {
			return res, fmt.Errorf("run script: %w", err)
		}
		return res, nil
	}
	if err != nil {
		return res, fmt.Errorf("run script: %w", err)
	}
	return res, nil
}

func lastOf(b []byte) []byte {
	b = bytes.TrimSpace(b)
	return b[max(0, len(b)-200):]
}

// Get reads a file.
func (*Host) Get(_ context.Context, path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	defer func() { _ = f.Close() }() // only read from
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	if int64(len(b)) > limit {
		return nil, hint.New(fmt.Sprintf("get %s: larger than %d bytes", path, limit), "check whether this is the file that was meant")
	}
	return b, nil
}
