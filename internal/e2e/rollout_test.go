//go:build hosts

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/testhost"
	"github.com/nationtech/fleetctl/internal/testhost/registry"
	fleet "github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// TestRollout brings images to real hosts in batches: a good one, one that
// crashes, and one while a host is switched off.
func TestRollout(t *testing.T) {
	hosts := map[string]*testhost.Host{}
	for _, id := range []string{"pi-a", "pi-b", "pi-c"} {
		hosts[id] = testhost.Start(t, testhost.Options{Suite: "bookworm", Podman: true, Hostname: id})
	}
	c := startControlPlane(t)
	reg := registry.Start(t, testhost.HarnessIP+":0")
	v1, v2, v3 := registry.PushApp(t, reg, "hello", "v1"), registry.PushApp(t, reg, "hello", "v2"), registry.PushApp(t, reg, "hello", "v3")
	crash := registry.PushApp(t, reg, "hello", "crash")
	for id, h := range hosts {
		c.onboard(t, h, id, "--insecure-registry", reg.Addr())
	}
	deploy := func(image string, more ...string) {
		t.Helper()
		c.fleetctl(t, append([]string{"deploy", "hello", "--image", image, "--all-devices", "--port", "8080:8080"}, more...)...)
	}
	allSay := func(version string, ids ...string) {
		t.Helper()
		for _, id := range ids {
			eventually(t, 20*time.Second, version+" on "+id, pageSays(hosts[id].IP(), 8080, version))
		}
	}
	stable := map[string]string{}

	t.Run("in batches", func(t *testing.T) {
		deploy(v1, "--batch", "1", "--max-unavailable", "1", "--min-ready", "2s", "--progress-deadline", "1m", "--auto-rollback")
		if out := c.fleetctl(t, "rollout", "status", "hello", "--timeout", "2m"); !strings.Contains(out, "3 ready") {
			t.Errorf("the status does not say that three are ready:\n%s", out)
		}
		deploy(v2)
		most := c.watchRollout(t, "hello")
		if most != 1 {
			t.Errorf("%d devices were in progress at once; the batch is 1", most)
		}
		allSay("v2", "pi-a", "pi-b", "pi-c")
	})
	if t.Failed() {
		return
	}

	t.Run("a crash stops at the first batch and is rolled back", func(t *testing.T) {
		for id, h := range hosts {
			stable[id] = containers(t, h)
		}
		deploy(crash)
		_, stderr, code := c.tryFleetctl(t, "rollout", "status", "hello", "--timeout", "2m")
		if code != 1 || !strings.Contains(stderr, "rolled back") || !strings.Contains(stderr, "hint:") {
			t.Errorf("exit code %d:\n%s", code, stderr)
		}
		touched := 0
		for id, h := range hosts {
			if containers(t, h) != stable[id] {
				touched++
			}
		}
		if touched != 1 {
			t.Errorf("%d hosts were touched, not 1", touched)
		}
		allSay("v2", "pi-a", "pi-b", "pi-c")
		if out := c.fleetctl(t, "describe", "deployment", "hello"); !strings.Contains(out, "RolledBack") || !strings.Contains(out, "exit") {
			t.Errorf("describe does not say what happened:\n%s", out)
		}
		// The spec is made to say what runs; nobody is disturbed by that.
		for id, h := range hosts {
			stable[id] = containers(t, h)
		}
		c.fleetctl(t, "rollout", "undo", "hello")
		c.fleetctl(t, "rollout", "status", "hello", "--timeout", "1m")
		for id, h := range hosts {
			if now := containers(t, h); now != stable[id] {
				t.Errorf("undo replaced the container on %s: %q, then %q", id, stable[id], now)
			}
		}
	})
	if t.Failed() {
		return
	}

	t.Run("a host that is off catches up", func(t *testing.T) {
		hosts["pi-b"].PowerOff(t)
		eventually(t, time.Minute, "pi-b is missed", func() error {
			if _, _, code := c.tryFleetctl(t, "ping", "pi-b"); code == 0 {
				return errors.New("it answers")
			}
			return nil
		})
		deploy(v3, "--wait", "--timeout", "2m")
		allSay("v3", "pi-a", "pi-c")
		var status struct{ Rollout *fleet.RolloutStatus }
		if err := json.Unmarshal([]byte(c.fleetctl(t, "rollout", "status", "hello", "-o", "json")), &status); err != nil {
			t.Fatal(err)
		}
		if s := status.Rollout; s == nil || s.Phase != fleet.RolloutComplete || s.Ready != 2 || s.Offline != 1 {
			t.Errorf("status %+v", s)
		}
		hosts["pi-b"].PowerOn(t)
		eventually(t, 90*time.Second, "v3 on pi-b", pageSays(hosts["pi-b"].IP(), 8080, "v3"))
	})

	t.Run("history", func(t *testing.T) {
		out := c.fleetctl(t, "rollout", "history", "hello")
		for _, image := range []string{v1, v2, v3, crash} {
			if !strings.Contains(out, image) {
				t.Errorf("the history lacks %s:\n%s", image, out)
			}
		}
	})
}

// watchRollout waits until the present rollout is complete and gives the most
// devices that were told and not ready yet.
func (c *controlPlane) watchRollout(t *testing.T, name string) (most int) {
	t.Helper()
	eventually(t, 2*time.Minute, "rollout of "+name, func() error {
		var d fleet.Deployment
		if err := c.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: name}, &d); err != nil {
			return err
		}
		s := d.Status.Rollout
		if s == nil || s.ObservedGeneration != d.Generation {
			return errors.New("not seen yet")
		}
		most = max(most, int(s.Updated-s.Ready))
		if s.Phase != fleet.RolloutComplete {
			return fmt.Errorf("%s: %s", s.Phase, s.Message)
		}
		return nil
	})
	return most
}
