//go:build vm

package machine

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/testhost/sandbox"
)

const bootLimit = 6 * time.Minute // emulated, on a loaded machine

// fleet is a running `fleet-server all` in reach of the machines, and the home
// of somebody who uses it.
type fleet struct {
	dir, home string
}

func startFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{dir: filepath.Join(t.TempDir(), "server"), home: t.TempDir()}
	log, err := os.Create(filepath.Join(f.home, "server.log"))
	if err != nil {
		t.Fatal(err)
	}
	server := exec.Command(program("fleet-server"), "all", "--data-dir", f.dir, "--listen-address", sandbox.Gateway(t), "--allow-psk")
	server.Stdout, server.Stderr = log, log
	if err := server.Start(); err != nil {
		t.Fatalf("%v; run: make build", err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		err := server.Wait()
		if data, _ := os.ReadFile(log.Name()); err != nil || t.Failed() {
			t.Logf("fleet-server: %v; the last of its log:\n%s", err, data[max(0, len(data)-4096):])
		}
		_ = log.Close()
	})
	eventually(t, 2*time.Minute, "fleet-server", func() error {
		_, err := os.Stat(filepath.Join(f.dir, "endpoints.json"))
		return err
	})
	return f
}

func program(name string) string { return filepath.Join(sandbox.Repository(), "bin", name) }

// try runs fleetctl as a person with a home of their own would.
func (f *fleet) try(t testing.TB, args ...string) (stdout, stderr string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), bootLimit) // cleaning up has no context of the test's
	defer cancel()
	c := exec.CommandContext(ctx, program("fleetctl"), args...)
	c.Env = append(os.Environ(), "HOME="+f.home, "XDG_CONFIG_HOME="+f.home+"/config", "XDG_CACHE_HOME="+f.home+"/cache",
		"FLEETCTL_SERVER_DIR="+f.dir, "SSH_AUTH_SOCK=")
	var out, report bytes.Buffer
	c.Stdout, c.Stderr = &out, &report
	began := time.Now()
	err = c.Run()
	if took := time.Since(began); took > time.Second {
		t.Logf("fleetctl %s: %.1f s", strings.Join(args, " "), took.Seconds())
	}
	return strings.TrimSpace(out.String()), report.String(), err
}

// fleetctl ends the test where the command fails, and gives what it printed.
func (f *fleet) fleetctl(t testing.TB, args ...string) string {
	t.Helper()
	out, report, err := f.try(t, args...)
	if err != nil {
		t.Fatalf("fleetctl %s: %v\n%s%s", strings.Join(args, " "), err, out, report)
	}
	return out
}

func (f *fleet) tidy(t testing.TB, args ...string) {
	if out, report, err := f.try(t, args...); err != nil {
		t.Errorf("fleetctl %s: %v\n%s%s", strings.Join(args, " "), err, out, report)
	}
}

func (f *fleet) sshKey() string         { return filepath.Join(f.home, "config/fleetctl/id_ed25519") }
func (f *fleet) knownHostsFile() string { return filepath.Join(f.home, "known_hosts") }

// knownHosts: the machine's host key was made before its first boot, so that
// nothing has to be trusted blindly.
func (f *fleet) knownHosts(t testing.TB, line string) {
	t.Helper()
	if err := os.WriteFile(f.knownHostsFile(), []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
}

// eventually asks until check gives no error, for at most the given time.
func eventually(t testing.TB, within time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		time.Sleep(time.Second) // asking takes its part of the two processors that the guest runs on
	}
}
