//go:build hosts

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/testhost"
	"github.com/nationtech/fleetctl/internal/testhost/terminal"
	fleet "github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// command is fleetctl as tryFleetctl runs it, for a test to start and watch.
func (c *controlPlane) command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program(t, "fleetctl"), args...)
	cmd.Env = append(c.env(), "TERM=xterm")
	return cmd
}

// registered says whether the server has given the id to a machine.
func (c *controlPlane) registered(t testing.TB, id string) bool {
	t.Helper()
	d := &fleet.Device{}
	err := c.Get(t.Context(), client.ObjectKey{Name: id}, d)
	if client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	return d.Spec.Enrolled != nil
}

// trees is what onboarding could have touched, with modification times. What
// runs in the meantime writes below /var and /run only.
const trees = `find /etc /usr/local /usr/lib/systemd /home /root -xdev \( -name .cache -o -name .bash_history \) -prune -o -printf '%p %y %m %u:%g %s %T@ %l\n' | sort`

// bare fails the test when the host was touched.
func bare(t *testing.T, c *controlPlane, h *testhost.Host, id, before string) {
	t.Helper()
	if c.registered(t, id) {
		t.Errorf("the server has registered %s", id)
	}
	if after := h.Sh(t, trees); after != before {
		t.Errorf("the host was changed:\n%s", diffLines(before, after))
	}
}

func diffLines(before, after string) string {
	had := map[string]bool{}
	for line := range strings.Lines(before) {
		had[strings.TrimSpace(line)] = true
	}
	var out strings.Builder
	for line := range strings.Lines(after) {
		if line = strings.TrimSpace(line); !had[line] {
			fmt.Fprintln(&out, "+", line)
		}
		delete(had, line)
	}
	for line := range had {
		fmt.Fprintln(&out, "-", line)
	}
	return out.String()
}

// place writes a file and the directories above it.
func place(t testing.TB, path string, data []byte, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, mode); err != nil {
		t.Fatal(err)
	}
}

// TestOnboardCommand is what a person does with onboard and offboard, on two
// bare hosts.
func TestOnboardCommand(t *testing.T) {
	a := testhost.Start(t, testhost.Options{Suite: "bookworm", Podman: true, Hostname: "pi-a"})
	b := testhost.Start(t, testhost.Options{Suite: "trixie", Podman: true, Hostname: "pi-b"})
	c := startControlPlane(t)
	before := a.Sh(t, trees)
	reachA := []string{"pi@" + a.IP(), "--ssh-key", a.KeyFile(), "--known-hosts", a.KnownHostsFile()}
	ask := append([]string{"onboard"}, reachA...)
	onA := append(ask[:len(ask):len(ask)], "--yes")

	t.Run("a plan changes nothing anywhere", func(t *testing.T) {
		out, stderr, code := c.tryFleetctl(t, append(ask[:len(ask):len(ask)], "--plan")...)
		if code != 3 || !strings.Contains(out, "fleet-agent.service") {
			t.Errorf("exit code %d, want 3; printed:\n%s%s", code, out, stderr)
		}
		bare(t, c, a, "pi-a", before)
	})

	t.Run("no terminal, no consent", func(t *testing.T) {
		_, stderr, code := c.tryFleetctl(t, ask...)
		if code != 4 || !strings.Contains(stderr, "--yes") {
			t.Errorf("exit code %d, want 4 and the flag to use:\n%s", code, stderr)
		}
		bare(t, c, a, "pi-a", before)
	})

	t.Run("the answer by default is no", func(t *testing.T) {
		person := terminal.Start(t, c.command(t, ask...))
		person.Expect("Make these changes?")
		person.Type("\r")
		if code := person.ExitCode(); code != 4 {
			t.Errorf("exit code %d, want 4", code)
		}
		bare(t, c, a, "pi-a", before)
	})

	t.Run("interrupted, then run again", func(t *testing.T) {
		cmd := c.command(t, onA...)
		// Steps are named on stderr as they end: [2/14] …
		progress, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		watched := make(chan struct{})
		go func() {
			defer close(watched)
			buffer, seen, pressed := make([]byte, 4096), "", false
			for {
				n, err := progress.Read(buffer)
				if seen += string(buffer[:n]); !pressed && strings.Contains(seen, "[2/") {
					pressed = true // a second time would kill it
					_ = cmd.Process.Signal(os.Interrupt)
				}
				if err != nil {
					return
				}
			}
		}()
		<-watched
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 130 {
			t.Errorf("exit code %d after ctrl-C, want 130", code)
		}
		c.onboard(t, a, "pi-a")
		if again := c.onboard(t, a, "pi-a"); again.Hosts[0].Changed != 0 {
			t.Errorf("changed once more: %+v", again.Hosts[0].Steps)
		}
		if stray := a.Sh(t, `find / -xdev -name '.fleetctl*' -o -xdev -name '*.fleetctl-*'`); stray != "" {
			t.Errorf("left behind: %s", stray)
		}
	})
	if t.Failed() {
		return
	}

	t.Run("a run that changes nothing touches nothing", func(t *testing.T) {
		now := a.Sh(t, trees)
		c.onboard(t, a, "pi-a")
		if after := a.Sh(t, trees); after != now {
			t.Errorf("changed:\n%s", diffLines(now, after))
		}
	})

	t.Run("the host's own judges agree", func(t *testing.T) {
		if out := a.Sh(t, "systemd-analyze verify fleet-agent.service 2>&1 | grep -i fleet-agent || true"); out != "" {
			t.Errorf("systemd-analyze verify: %s", out)
		}
		a.Sh(t, "! command -v visudo || visudo -c -q")
		if out := a.Sh(t, "loginctl show-user fleet-agent -P Linger"); out != "yes" {
			t.Errorf("lingering of fleet-agent: %q", out)
		}
		if out := a.Sh(t, "systemd-analyze security --no-pager fleet-agent.service | tail -n 1"); !strings.Contains(out, "OK") {
			t.Errorf("systemd-analyze security: %s", out)
		}
	})

	t.Run("a file of hosts, one of them away", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "hosts.yaml")
		away := testhost.HarnessIP + ":9"
		text := fmt.Sprintf("labels: {env: test}\nhosts:\n- {host: 'pi@%s', deviceId: pi-a, labels: {site: lyon}}\n- {host: 'pi@%s'}\n- {host: 'pi@%s', deviceId: away}\n", a.IP(), b.IP(), away)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		known := filepath.Join(t.TempDir(), "known_hosts")
		for _, h := range []*testhost.Host{a, b} {
			data, err := os.ReadFile(h.KnownHostsFile())
			if err != nil {
				t.Fatal(err)
			}
			all, _ := os.ReadFile(known)
			if err := os.WriteFile(known, append(all, data...), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		key := a.KeyFile()
		b.Sh(t, fmt.Sprintf("echo '%s' >> ~pi/.ssh/authorized_keys", a.Sh(t, "cat ~pi/.ssh/authorized_keys")))
		out, stderr, code := c.tryFleetctl(t, "onboard", "-f", file, "--ssh-key", key, "--known-hosts", known, "--yes", "-o", "json")
		if code == 0 {
			t.Errorf("a host that is away is no failure:\n%s", stderr)
		}
		var result onboardResult
		if err := json.Unmarshal([]byte(out), &result); err != nil || len(result.Hosts) != 3 {
			t.Fatalf("result: %v\n%s\n%s", err, out, stderr)
		}
		for i, want := range []string{"pi-a", "pi-b"} {
			if got := result.Hosts[i]; got.DeviceID != want || got.Error != "" || got.Changed == 0 {
				t.Errorf("host %d: %+v", i, got)
			}
		}
		// Changing labels changes the file and restarts the unit, and no more.
		if got := result.Hosts[0].Changed; got != 2 {
			t.Errorf("new labels took %d steps: %+v", got, result.Hosts[0].Steps)
		}
		if got := result.Hosts[2]; got.Error == "" || c.registered(t, "away") {
			t.Errorf("the host that is away: %+v", got)
		}
		var device fleet.Device
		eventually(t, 10*time.Second, "the labels of both", func() error {
			if err := c.Get(t.Context(), client.ObjectKey{Name: "pi-a"}, &device); err != nil {
				return err
			}
			if device.Labels["site"] != "lyon" || device.Labels["env"] != "test" {
				return fmt.Errorf("labels of pi-a: %v", device.Labels)
			}
			return nil
		})
	})

	t.Run("on the device itself, with nobody's session left on it", func(t *testing.T) {
		dir := filepath.Join(b.Root(), "opt", "fleet")
		for name, from := range map[string]string{"fleetctl": program(t, "fleetctl"), "fleet-agent-linux-amd64": program(t, "fleet-agent-linux-amd64")} {
			data, err := os.ReadFile(from)
			if err != nil {
				t.Fatal(err)
			}
			place(t, filepath.Join(dir, name), data, 0o755)
		}
		run := "cd /opt/fleet && ./fleetctl enroll --local --server " + c.endpoint(t, "apiURL") + " --ca-fingerprint " + c.endpoint(t, "caFingerprint") +
			" --label env=test --host-entry fleet.example.com=" + testhost.HarnessIP + " --yes"
		out := c.approvedOnHost(t, b, run)
		if strings.Contains(out, " 0 changed") || !strings.Contains(out, "changed in") {
			t.Errorf("printed:\n%s", out)
		}
		if out := b.Sh(t, "getent hosts fleet.example.com"); !strings.Contains(out, testhost.HarnessIP) {
			t.Errorf("fleet.example.com resolves to %q", out)
		}
		if out := c.approvedOnHost(t, b, run); !strings.Contains(out, "0 changed") {
			t.Errorf("the second run changed something:\n%s", out)
		}
		if left := b.Sh(t, "find / -xdev \\( -path '*fleetctl/sessions*' -o -name contexts.json \\) 2>/dev/null; true"); left != "" {
			t.Errorf("left on the device: %s", left)
		}
	})

	t.Run("no heartbeat", func(t *testing.T) {
		_, stderr, code := c.tryFleetctl(t, append(onA, "--nats-url", "tls://"+testhost.HarnessIP+":9", "--timeout", "4s")...)
		if code == 0 || !strings.Contains(stderr, "the agent's last lines") || !strings.Contains(stderr, "connection refused") || !strings.Contains(stderr, "hint:") {
			t.Errorf("exit code %d, and it does not say why:\n%s", code, stderr)
		}
		c.fleetctl(t, onA...)
	})

	t.Run("offboard", func(t *testing.T) {
		args := append([]string{"offboard"}, onA[1:]...)
		if _, _, code := c.tryFleetctl(t, append(args, "--plan")...); code != 3 {
			t.Errorf("exit code %d of the plan, want 3", code)
		}
		c.fleetctl(t, args...)
		if left := a.Sh(t, `getent passwd fleet-agent; ls -d /etc/fleet-agent /var/lib/fleet-agent /usr/local/lib/fleet-agent /usr/local/bin/fleet-agent /etc/systemd/system/fleet-agent.service 2>/dev/null; true`); left != "" {
			t.Errorf("left behind: %s", left)
		}
		if out := c.fleetctl(t, args...); !strings.Contains(out, "0 changed") {
			t.Errorf("the second run changed something:\n%s", out)
		}
	})
	t.Run("the control plane forgets it", func(t *testing.T) {
		eventually(t, 10*time.Second, "no Device object", func() error {
			err := c.Get(t.Context(), client.ObjectKey{Name: "pi-a"}, &fleet.Device{})
			if apierrors.IsNotFound(err) {
				return nil
			}
			return fmt.Errorf("still there: %w", err)
		})
	})
}
