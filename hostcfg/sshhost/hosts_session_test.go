//go:build hosts

package sshhost_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
	"github.com/nationtech/fleetctl/hostcfg"
	"github.com/nationtech/fleetctl/hostcfg/sshhost"
	"github.com/nationtech/fleetctl/hostcfg/sshhost/sshtest"
	"github.com/nationtech/fleetctl/internal/testhost"
)

func TestRealDeadline(t *testing.T) {
	host := testhost.Start(t, testhost.Options{})
	for name, sudoers := range map[string]string{"plain": "", "use_pty": "Defaults use_pty", "requiretty": "Defaults requiretty"} {
		t.Run(name, func(t *testing.T) {
			host.Sh(t, "echo '"+sudoers+"' > /etc/sudoers.d/test")
			afterwards(t, host, "rm /etc/sudoers.d/test")
			h := realRig(t, host, "pi").dial(t)
			for _, user := range []string{"", "pi"} {
				start := time.Now()
				_, err := h.Run(t.Context(), hostcfg.Command{User: user, Script: "sleep 4711 & sleep 4712", Timeout: 300 * time.Millisecond})
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 30*time.Second {
					t.Errorf("as %q, after %s: %v", user, time.Since(start), err)
				}
				within(t, 30*time.Second, "nothing is left", func() bool { return host.Sh(t, "pgrep -f 'sleep 471[12]' || true") == "" })
			}
			works(t, h)
		})
	}
}

func TestRealRoundTrips(t *testing.T) {
	host := testhost.Start(t, testhost.Options{})
	p := sshtest.NewProxy(t, host.SSHAddr(), 80*time.Millisecond)
	r := realRig(t, host, "pi")
	r.target = target(t, p.Addr)
	r.target.User = "pi"
	r.options.KnownHosts = []string{filepath.Join(r.dir, "known_hosts")}
	r.asker.trust = true
	h := r.dial(t)
	before, start := p.RoundTrips(), time.Now()
	for range 3 {
		run(t, h, "id; uname -a; cat /etc/os-release")
	}
	n, took := p.RoundTrips()-before, time.Since(start)
	t.Logf("three scripts after authentication, sudo included: %d round trips, %s", n, took.Round(time.Millisecond))
	if n > 6 || took > 10*time.Second { // the count tells; a busy machine takes its time over sudo
		t.Errorf("%d round trips in %s, want at most 6", n, took)
	}
}

// systemUnit asks systemd about a unit through the host's bus.
func systemUnit(ctx context.Context, h *sshhost.Host, unit string) (string, error) {
	conn, err := dbus.NewConnection(func() (*godbus.Conn, error) {
		stream, err := h.SystemBus(ctx)
		if err != nil {
			return nil, err
		}
		c, err := godbus.NewConn(stream)
		if err == nil {
			err = c.Auth([]godbus.Auth{godbus.AuthAnonymous()})
		}
		if err == nil {
			err = c.Hello()
		}
		return c, err
	})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	p, err := conn.GetUnitPropertyContext(ctx, unit, "ActiveState")
	if err != nil {
		return "", err
	}
	return p.Value.Value().(string), nil
}

func TestRealSystemBus(t *testing.T) {
	host := testhost.Start(t, testhost.Options{})
	addUser(t, host, "alice", "/bin/bash", "secret", "usermod -aG sudo alice")
	for _, user := range []string{"root", "pi", "alice"} {
		t.Run(user, func(t *testing.T) {
			r := realRig(t, host, user)
			r.asker.answers = map[sshhost.QuestionKind][]string{sshhost.SudoPassword: {"secret"}}
			h := r.dial(t)
			run(t, h, "true")
			state, err := systemUnit(t.Context(), h, "ssh.service")
			if user == "alice" { // one authentication a run, and the root shell has had it
				if err == nil || h.Elevation() != "sudo with password" {
					t.Errorf("the bus of a login whose sudo wants a password: %q, %v", state, err)
				}
				works(t, h)
			} else if err != nil || state != "active" {
				t.Errorf("ssh.service is %q, %v", state, err)
			}
			if len(r.asker.asked) > 1 {
				t.Errorf("asked %+v", r.asker.asked)
			}
		})
	}
	t.Run("one session only", func(t *testing.T) {
		sshdWith(t, host, "MaxSessions 1")
		h := realRig(t, host, "pi").dial(t)
		run(t, h, "true")
		if s, err := h.SystemBus(t.Context()); err == nil {
			_ = s.Close()
			t.Error("a second session was opened")
		}
		works(t, h)
	})
}

func TestRealReboot(t *testing.T) {
	host := testhost.Start(t, testhost.Options{})
	h := realRig(t, host, "pi").dial(t)
	const bootID = "cat /proc/1/stat | cut -d' ' -f22" // a container shares the kernel's boot_id
	before := string(run(t, h, bootID).Stdout)
	host.Reboot(t)
	if _, err := h.Run(t.Context(), hostcfg.Command{Script: "true", Timeout: 5 * time.Second}); err == nil {
		t.Error("the connection survived a reboot")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := h.Reconnect(ctx); err != nil {
		t.Fatal(err)
	}
	if after := string(run(t, h, bootID).Stdout); after == before {
		t.Errorf("PID 1 is as old as before: %s", after)
	}
}

func TestRealProxyJump(t *testing.T) {
	bastion, inner := testhost.Start(t, testhost.Options{}), testhost.Start(t, testhost.Options{})
	r := realRig(t, inner, "pi")
	known := filepath.Join(r.dir, "known_hosts")
	var both []byte
	for _, h := range []*testhost.Host{bastion, inner} {
		text, err := os.ReadFile(h.KnownHostsFile())
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, text...)
	}
	config := filepath.Join(r.dir, "config")
	text := strings.NewReplacer("BASTION", bastion.IP(), "INNER", inner.IP(), "KEY", bastion.KeyFile()).Replace(
		"Host inner\nHostName INNER\nUser pi\nProxyJump pi@bastion\nHost bastion\nHostName BASTION\nIdentityFile KEY\n")
	for path, content := range map[string][]byte{known: both, config: []byte(text)} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r.options.KnownHosts, r.options.ConfigFiles = []string{known}, []string{config}
	r.target = sshhost.Target{Host: "inner"}
	h := r.dial(t)
	works(t, h)
	from := strings.Fields(string(run(t, h, `for p in $(pgrep -x sshd); do tr '\0' '\n' </proc/$p/environ; done | grep SSH_CONNECTION; ss -Htn state established '( sport = :22 )' | head -1`).Stdout))
	if !strings.Contains(strings.Join(from, " "), bastion.IP()) {
		t.Errorf("the inner host was reached from %v, not from %s", from, bastion.IP())
	}
}
