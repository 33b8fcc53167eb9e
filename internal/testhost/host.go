package testhost

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/testhost/netns"
	"github.com/nationtech/fleetctl/internal/testhost/proxy"
)

// Host is a running throw-away host. Its methods may be called from several
// goroutines, except those that switch it on and off.
type Host struct {
	slot    slot
	options Options
	proxy   *proxy.Server
	machine *machine
}

// Start boots a host for a test and removes it when the test ends. It skips
// the test where hosts cannot be had, and fails it where they should.
func Start(t testing.TB, o Options) *Host {
	t.Helper()
	if lacks := Lacks(); lacks != "" {
		t.Skip("SKIPPED, NOT TESTED: throw-away hosts need " + lacks)
	}
	h, err := New(context.Background(), o)
	if err != nil {
		t.Fatalf("start a test host: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("last console lines of %s:\n%s", h.options.Hostname, h.Console(20))
		}
		if err := h.Close(); err != nil {
			t.Errorf("remove the test host: %v", err)
		}
	})
	return h
}

// Lacks says what this machine lacks to run hosts, or "".
func Lacks() string {
	if os.Geteuid() != 0 {
		return "root"
	}
	for tool, pkg := range map[string]string{
		"systemd-nspawn": "systemd-container", "mmdebstrap": "mmdebstrap", "ip": "iproute2", "nsenter": "util-linux",
	} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Sprintf("%s (apt-get install %s)", tool, pkg)
		}
	}
	return ""
}

// New boots a host outside a test. The caller closes it.
func New(ctx context.Context, o Options) (*Host, error) {
	s, err := takeSlot(ctx)
	if err != nil {
		return nil, err
	}
	h := &Host{slot: s, options: o.withDefaults(int(s))}
	if err := h.start(ctx); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

func (h *Host) start(ctx context.Context) error {
	base, err := template(ctx, h.options)
	if err != nil {
		return err
	}
	if err := h.slot.mount(ctx, base); err != nil {
		return err
	}
	if err := h.slot.makeDevices(); err != nil {
		return err
	}
	if h.proxy, err = proxy.Start(HarnessIP+":0", h.Root()); err != nil {
		return err
	}
	if err := h.personalise(); err != nil {
		return fmt.Errorf("personalise %s: %w", h.options.Hostname, err)
	}
	if err := h.slot.makeNetwork(ctx); err != nil {
		return err
	}
	return h.powerOn(ctx)
}

// Close removes the host and everything of it.
func (h *Host) Close() error {
	var errs []error
	if h.machine != nil {
		errs = append(errs, h.machine.kill())
	}
	if h.proxy != nil {
		errs = append(errs, h.proxy.Close())
	}
	return errors.Join(append(errs, h.slot.release(context.Background()))...)
}

// Hostname is the host's own name for itself.
func (h *Host) Hostname() string { return h.options.Hostname }

// IP is the address at which the machine and other hosts reach the host.
func (h *Host) IP() string { return h.slot.ip() }

// SSHAddr is where sshd listens, "IP:22".
func (h *Host) SSHAddr() string { return net.JoinHostPort(h.IP(), "22") }

// KeyFile is the private key that root and User accept, unencrypted.
func (h *Host) KeyFile() string { return filepath.Join(h.slot.dir(), "id_ed25519") }

// KnownHostsFile holds the host's key, for strict checking.
func (h *Host) KnownHostsFile() string { return filepath.Join(h.slot.dir(), "known_hosts") }

// Root is the host's root directory as seen from outside. It is for looking,
// and for changing files while the host is off.
func (h *Host) Root() string { return h.slot.root() }

// Dial connects from inside the host's network: its 127.0.0.1 is the host's.
// addr holds an IP, not a name.
func (h *Host) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var conn net.Conn
	err := netns.Do(h.slot.netnsPath(), func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}

// Command is a program of this machine in the host's network: it reaches what
// listens on HarnessIP, and other hosts, and nobody else.
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + h.slot.netnsPath(), "--", name}, args...)...)
}

// Console returns the last lines that the host wrote to its console.
func (h *Host) Console(lines int) string {
	data, _ := os.ReadFile(h.slot.console())
	all := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// waitBoot waits until sshd greets and systemd has nothing left to start: before
// that logind may not answer yet.
func (h *Host) waitBoot(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, h.options.Boot)
	defer cancel()
	for {
		err := h.greeting(ctx)
		if err == nil {
			// Asked again and again: systemctl's own --wait misses the signal when the
			// bus comes up after it asked, and then waits for ever. A host with failed
			// units is a test's affair.
			_, err = h.Run(ctx, "until systemctl is-system-running | grep -qxE 'running|degraded|maintenance'; do sleep 0.02; done")
			return err
		}
		select {
		case <-h.machine.stopped:
			return fmt.Errorf("%s stopped while booting:\n%s", h.options.Hostname, h.Console(20))
		case <-ctx.Done():
			return fmt.Errorf("wait for sshd of %s: no answer in %s: %w; last console lines:\n%s", h.options.Hostname, h.options.Boot, err, h.Console(20))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (h *Host) greeting(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", h.SSHAddr())
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetReadDeadline(deadline); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 4))
	return err
}
