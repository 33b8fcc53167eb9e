//go:build hosts

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/devicekey"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/testhost"
	"github.com/nationtech/fleetctl/internal/testhost/registry"
	fleet "github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// device asks the server what it knows of a device.
func (c *controlPlane) device(t testing.TB, id string) api.Device {
	t.Helper()
	server := c.api(t)
	d, err := server.Device(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestEnroll is the life of a device's identity: made on it, kept, replaced,
// ended.
func TestEnroll(t *testing.T) {
	h := testhost.Start(t, testhost.Options{Suite: "bookworm", Podman: true, Hostname: "pi-a"})
	c := startControlPlane(t)
	reg := registry.Start(t, testhost.HarnessIP+":0")
	image := registry.PushApp(t, reg, "hello", "v1")
	reach := []string{"pi@" + h.IP(), "--device-id", "pi-a", "--ssh-key", h.KeyFile(), "--known-hosts", h.KnownHostsFile(), "--insecure-registry", reg.Addr(), "--label", "site=lyon"}
	enroll := append([]string{"enroll", "--yes", "-o", "json"}, reach...)
	run := func(t *testing.T, more ...string) onboardResult {
		t.Helper()
		var result onboardResult
		if err := json.Unmarshal([]byte(c.fleetctl(t, append(enroll, more...)...)), &result); err != nil || len(result.Hosts) != 1 {
			t.Fatalf("no result: %v", err)
		}
		return result
	}
	identity := func() string { return h.Sh(t, "/usr/local/bin/fleet-agent keygen --show") }

	t.Run("enroll", func(t *testing.T) {
		out, stderr, code := c.tryFleetctl(t, append([]string{"enroll", "--plan"}, reach...)...)
		if code != 3 || !strings.Contains(out, "make the device's identity key on it") {
			t.Errorf("exit code %d of the plan:\n%s%s", code, out, stderr)
		}
		run(t)
		if got := h.Sh(t, "stat -c '%U:%G %a %n' /etc/fleet-agent/* | sort -k3"); !strings.Contains(got, "fleet-agent:fleet-agent 400 /etc/fleet-agent/identity.json") ||
			!strings.Contains(got, "fleet-agent:fleet-agent 400 /etc/fleet-agent/sealing.key") || strings.Contains(got, "/psk") || strings.Contains(got, "identity.key") {
			t.Errorf("files:\n%s", got)
		}
		if config := h.Sh(t, "cat /etc/fleet-agent/config.toml"); !strings.Contains(config, "type = 'oidc'") {
			t.Errorf("configuration:\n%s", config)
		}
		if !c.device(t, "pi-a").Connected {
			t.Error("not connected")
		}
		var keys devicekey.Public
		if err := json.Unmarshal([]byte(identity()), &keys); err != nil {
			t.Fatal(err)
		}
		var d fleet.Device
		if err := c.Get(t.Context(), client.ObjectKey{Name: "pi-a"}, &d); err != nil || d.Spec.Subject == "" || d.Spec.Subject != keys.Identity.UserID {
			t.Errorf("the device signs in as user %s, and %q is registered: %v", keys.Identity.UserID, d.Spec.Subject, err)
		}
	})
	if t.Failed() {
		return
	}
	t.Run("again", func(t *testing.T) {
		before := identity()
		if got := run(t); got.Hosts[0].Changed != 0 {
			t.Errorf("changed %+v", got.Hosts[0].Steps)
		}
		if identity() != before {
			t.Error("the keys are others")
		}
		// onboard means the same.
		if got := c.onboard(t, h, "pi-a", "--insecure-registry", reg.Addr(), "--label", "site=lyon"); got.Hosts[0].Changed != 0 {
			t.Errorf("onboard changed %+v", got.Hosts[0].Steps)
		}
	})
	c.fleetctl(t, "deploy", "hello", "--image", image, "--selector", "site=lyon", "--port", "8080:8080", "--wait", "--timeout", "2m")
	running := containers(t, h)

	t.Run("rotate without a gap", func(t *testing.T) {
		before, since := identity(), c.device(t, "pi-a").ConnectedSince
		pid := h.Sh(t, "systemctl show -P MainPID fleet-agent")
		got := run(t, "--rotate")
		var changed []string
		for _, s := range got.Hosts[0].Steps {
			if s.Changed {
				changed = append(changed, s.ID)
			}
		}
		if len(changed) != 1 || changed[0] != "task:device-keys" {
			t.Errorf("a rotation changed %v", changed)
		}
		if identity() == before || h.Sh(t, "systemctl show -P MainPID fleet-agent") != pid || containers(t, h) != running {
			t.Error("the key is the old one, or the agent or a container was restarted")
		}
		if now := c.device(t, "pi-a").ConnectedSince; now == nil || !now.Equal(*since) {
			t.Errorf("the device was disconnected: connected since %v, before %v", now, since)
		}
		// The new key is what it comes back with.
		h.Sh(t, "systemctl restart fleet-agent")
		eventually(t, 30*time.Second, "connected with the new key", c.connected(t, "pi-a", since))
		if got := run(t); got.Hosts[0].Changed != 0 {
			t.Errorf("after the rotation changed %+v", got.Hosts[0].Steps)
		}
	})

	t.Run("revoke", func(t *testing.T) {
		began := time.Now()
		out := c.fleetctl(t, "revoke", "pi-a", "--yes", "-o", "json")
		if took := time.Since(began); took > 5*time.Second || !strings.Contains(out, `"keysRemoved": true`) {
			t.Errorf("took %s, printed %s", took, out)
		}
		if d := c.device(t, "pi-a"); d.Connected || d.Revoked == nil {
			t.Errorf("still there: %+v", d)
		}
		h.Sh(t, "systemctl restart fleet-agent || true")
		time.Sleep(5 * time.Second) // it tries, and is refused: there is no event to wait for
		if c.device(t, "pi-a").Connected {
			t.Error("came back")
		}
		if containers(t, h) != running {
			t.Error("the container was touched")
		}
	})
	t.Run("enroll again", func(t *testing.T) {
		if got := run(t); got.Hosts[0].Changed == 0 {
			t.Error("nothing was done")
		}
		if !c.device(t, "pi-a").Connected || containers(t, h) != running {
			t.Error("not connected, or the container was touched")
		}
	})
	t.Run("setup-identity", func(t *testing.T) {
		keys := t.TempDir() + "/keys"
		var made struct {
			ProjectID, CLIClientID, DashboardClientID string
			Changes                                   []string
			Services                                  []struct{ Name, KeyFile string }
		}
		for i := range 2 {
			out := c.fleetctl(t, "server", "setup-identity", "--keys-dir", keys, "-o", "json")
			if err := json.Unmarshal([]byte(out), &made); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if (i == 0) == (len(made.Changes) == 0) {
				t.Errorf("run %d changed %q", i, made.Changes)
			}
		}
		if made.ProjectID != c.endpoint(t, "projectID") || made.CLIClientID != c.endpoint(t, "cliClientID") || made.DashboardClientID == "" || len(made.Services) != 3 {
			t.Errorf("made %+v", made)
		}
		for _, s := range made.Services {
			if info, err := os.Stat(s.KeyFile); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("key of %s: %v, %v", s.Name, info, err)
			}
		}
		if out := c.fleetctl(t, "server", "setup-identity", "--keys-dir", keys); !strings.Contains(out, "nothing had to be made") || !strings.Contains(out, "fleetctl login --server") {
			t.Errorf("printed:\n%s", out)
		}
	})
	t.Run("another device's keys are not taken over", func(t *testing.T) {
		// As on a card that was copied: what is there is pi-a's.
		var before, after devicekey.Public
		if err := json.Unmarshal([]byte(identity()), &before); err != nil {
			t.Fatal(err)
		}
		run(t, "--device-id", "pi-c")
		if err := json.Unmarshal([]byte(identity()), &after); err != nil {
			t.Fatal(err)
		}
		if after.Identity.UserID == before.Identity.UserID || after.Identity.PublicKey == before.Identity.PublicKey || bytes.Equal(after.SealingKey, before.SealingKey) {
			t.Errorf("pi-c has keys of pi-a: %+v", after)
		}
		if !c.device(t, "pi-c").Connected {
			t.Error("not connected")
		}
	})
	t.Run("a viewer may not", func(t *testing.T) {
		c.addUser(t, "vera", "fleet-viewer")
		viewer := *c
		viewer.configDir = t.TempDir()
		cmd := exec.CommandContext(t.Context(), program(t, "fleetctl"), "login", "--no-browser", "--no-kubeconfig", "-o", "json")
		cmd.Env = viewer.env()
		viewer.approved(t, cmd, "vera")
		_, stderr, code := viewer.tryFleetctl(t, append(enroll, "--rotate")...)
		if code != 6 || !strings.Contains(stderr, "fleet-admin") {
			t.Errorf("exit code %d:\n%s", code, stderr)
		}
	})
}

// connected is nil once the device is connected, later than since.
func (c *controlPlane) connected(t testing.TB, id string, since *time.Time) func() error {
	return func() error {
		d, err := c.api(t).Device(t.Context(), id)
		if err != nil {
			return err
		}
		if !d.Connected || since != nil && !d.ConnectedSince.After(*since) {
			return fmt.Errorf("connected %v since %v", d.Connected, d.ConnectedSince)
		}
		return nil
	}
}

// agentImage makes the host one with the agent on it and no identity.
func (c *controlPlane) agentImage(t testing.TB, h *testhost.Host, id string, more ...string) {
	t.Helper()
	c.onboard(t, h, id, more...)
	c.fleetctl(t, "revoke", id, "--yes")
	h.Sh(t, "systemctl disable --now fleet-agent && rm -f /etc/fleet-agent/*")
}

// askToJoin has the host ask, and gives the code that its screen shows. wait
// gives the exit code, and on the next lines what was printed.
func (c *controlPlane) askToJoin(t *testing.T, h *testhost.Host, flags string) (code string, wait func() (string, error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	done := make(chan struct{})
	var out string
	var err error
	go func() {
		defer close(done)
		r, failed := h.Run(ctx, "fleet-agent join --server "+c.endpoint(t, "apiURL")+" "+flags+" >/run/join.log 2>&1; echo $?")
		out, err = strings.TrimSpace(r.Stdout), failed
	}()
	eventually(t, 30*time.Second, "a code on the screen", func() error {
		screen := h.Sh(t, "cat /run/issue.d/fleet-agent.issue 2>/dev/null || true")
		_, rest, ok := strings.Cut(screen, "--code ")
		if code, _, _ = strings.Cut(rest, "\n"); !ok || code == "" {
			return fmt.Errorf("the screen shows %q; %s", screen, h.Sh(t, "cat /run/join.log 2>/dev/null || true"))
		}
		return nil
	})
	return code, func() (string, error) {
		<-done
		return out + "\n" + h.Sh(t, "cat /run/join.log"), err
	}
}

// TestJoin is a device that asks by itself, with nobody's credentials on it.
func TestJoin(t *testing.T) {
	h := testhost.Start(t, testhost.Options{Suite: "trixie", Podman: true, Hostname: "pi-b"})
	c := startControlPlane(t)
	c.agentImage(t, h, "pi-b")
	ask := func(t *testing.T, flags string) (code string, wait func() (string, error)) {
		t.Helper()
		return c.askToJoin(t, h, flags)
	}
	server, ca := c.endpoint(t, "apiURL"), c.endpoint(t, "caFingerprint")

	t.Run("denied", func(t *testing.T) {
		_, wait := ask(t, "--ca-fingerprint "+ca)
		if out := c.fleetctl(t, "devices", "pending"); !strings.Contains(out, "pi-b") || !strings.Contains(out, "another") && !strings.Contains(out, "enrolled before") {
			t.Errorf("pending:\n%s", out)
		}
		c.fleetctl(t, "devices", "deny", "pi-b")
		if out, err := wait(); err != nil || !strings.HasPrefix(out, "4") || !strings.Contains(out, "denied") {
			t.Errorf("%v: %s", err, out)
		}
		if left := h.Sh(t, "ls /etc/fleet-agent /run/issue.d 2>/dev/null"); strings.Contains(left, "config.toml") || strings.Contains(left, "issue\n") {
			t.Errorf("left behind: %s", left)
		}
	})
	t.Run("approved by its code alone", func(t *testing.T) {
		code, wait := ask(t, "--label site=lyon") // no fingerprint: the code vouches for the server
		if _, stderr, exit := c.tryFleetctl(t, "devices", "approve", "pi-b", "--code", "BCDF-GHJK"); exit == 0 || !strings.Contains(stderr, "hint:") {
			t.Errorf("a wrong code: exit code %d, %s", exit, stderr)
		}
		c.fleetctl(t, "devices", "approve", "pi-b", "--code", strings.ToLower(code))
		if out, err := wait(); err != nil || !strings.HasPrefix(out, "0") {
			t.Fatalf("%v: %s", err, out)
		}
		eventually(t, 30*time.Second, "connected", c.connected(t, "pi-b", nil))
		if got := c.onboard(t, h, "pi-b", "--label", "site=lyon"); got.Hosts[0].Changed != 0 {
			t.Errorf("onboard changed what joining had made: %+v", got.Hosts[0].Steps)
		}
		if out := c.fleetctl(t, "audit", "--device", "pi-b"); !strings.Contains(out, "approve join") || !strings.Contains(out, "deny join") {
			t.Errorf("not on record:\n%s", out)
		}
	})
	t.Run("a wrong fingerprint", func(t *testing.T) {
		h.Sh(t, "rm -f /etc/fleet-agent/identity.json")
		wrong := strings.Repeat("AA:", 31) + "AA"
		if out := h.Sh(t, "fleet-agent join --server "+server+" --ca-fingerprint "+wrong+" 2>&1; echo exit $?"); !strings.Contains(out, "exit 6") {
			t.Errorf("%s", out)
		}
	})
}
