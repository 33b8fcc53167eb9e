//go:build hosts

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/testhost"
	"github.com/nationtech/fleetctl/internal/testhost/registry"
	fleet "github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// TestThread follows one app from bare hosts to a page and away again.
func TestThread(t *testing.T) {
	a := testhost.Start(t, testhost.Options{Suite: "bookworm", Podman: true, Hostname: "pi-a"})
	b := testhost.Start(t, testhost.Options{Suite: "trixie", Podman: true, Hostname: "pi-b"})
	c := startControlPlane(t)
	reg := registry.Start(t, testhost.HarnessIP+":0")
	v1, v2 := registry.PushApp(t, reg, "hello", "v1"), registry.PushApp(t, reg, "hello", "v2")
	registryFlag := []string{"--insecure-registry", reg.Addr()}

	t.Run("onboard", func(t *testing.T) {
		if got := c.onboard(t, a, "pi-a", append(registryFlag, "--label", "site=lyon")...); got.Hosts[0].Changed == 0 {
			t.Error("the first onboarding changed nothing")
		}
		c.onboard(t, b, "pi-b", append(registryFlag, "--label", "site=paris")...)
		if again := c.onboard(t, a, "pi-a", append(registryFlag, "--label", "site=lyon")...); again.Hosts[0].Changed != 0 {
			t.Errorf("the second onboarding changed something: %+v", again.Hosts[0].Steps)
		}
		for id, suite := range map[string]string{"pi-a": "bookworm", "pi-b": "trixie"} {
			var device fleet.Device
			if err := c.Get(t.Context(), client.ObjectKey{Name: id}, &device); err != nil {
				t.Fatal(err)
			}
			if device.Labels["device-id"] != id || !strings.Contains(device.Status.Inventory.OS, suite) {
				t.Errorf("device %s: labels %v, OS %q", id, device.Labels, device.Status.Inventory.OS)
			}
		}
	})
	if t.Failed() {
		return
	}

	var firstContainer string
	t.Run("deploy", func(t *testing.T) {
		c.fleetctl(t, "deploy", "hello", "--image", v1, "--selector", "site=lyon", "--port", "8080:8080", "--wait", "--timeout", "2m")
		eventually(t, 10*time.Second, "page on pi-a", pageSays(a.IP(), 8080, "v1"))
		if out := c.fleetctl(t, "get", "deployments", "hello"); !strings.Contains(out, "1/1") {
			t.Errorf("get deployments does not say 1/1:\n%s", out)
		}
		firstContainer = containers(t, a)
		if got := containers(t, b); got != "" {
			t.Errorf("the host that the selector does not match runs: %s", got)
		}
	})

	t.Run("upgrade", func(t *testing.T) {
		c.fleetctl(t, "deploy", "hello", "--image", v2, "--selector", "site=lyon", "--port", "8080:8080", "--wait", "--timeout", "2m")
		eventually(t, 10*time.Second, "new page on pi-a", pageSays(a.IP(), 8080, "v2"))
		now := containers(t, a)
		if now == firstContainer || strings.Count(now, "\n") != 0 {
			t.Errorf("the container was not replaced by one other: before %q, now %q", firstContainer, now)
		}
	})

	t.Run("remote hands", func(t *testing.T) {
		if out := c.fleetctl(t, "logs", "pi-a", "hello", "--tail", "100"); out == "" {
			t.Error("the app's log is empty")
		}
		if out := c.fleetctl(t, "inspect", "pi-a", "hello"); !strings.Contains(out, v2) {
			t.Errorf("inspect does not name the image:\n%s", out)
		}
		started := func() string {
			return a.ShAs(t, "fleet-agent", "podman inspect -f '{{.State.StartedAt}}' $(podman ps -q)")
		}
		before, container := started(), containers(t, a)
		c.fleetctl(t, "restart", "pi-a", "hello")
		if now := started(); now == before || containers(t, a) != container {
			t.Errorf("started %s, then %s; containers %q, then %q", before, now, container, containers(t, a))
		}
		eventually(t, 10*time.Second, "page after the restart", pageSays(a.IP(), 8080, "v2"))
		if _, stderr, code := c.tryFleetctl(t, "logs", "pi-b", "hello"); code != 1 || !strings.Contains(stderr, "hint:") {
			t.Errorf("logs of what does not run there: exit code %d, %s", code, stderr)
		}
		if _, stderr, code := c.tryFleetctl(t, "restart", "nobody", "hello"); code != 1 || !strings.Contains(stderr, "hint:") {
			t.Errorf("an unknown device: exit code %d, %s", code, stderr)
		}
		if out := c.fleetctl(t, "audit", "--device", "pi-a"); !strings.Contains(out, "restart") || !strings.Contains(out, "enrol") {
			t.Errorf("the record lacks what was done:\n%s", out)
		}
	})

	t.Run("server restart changes nothing on the device", func(t *testing.T) {
		before := containers(t, a)
		c.stop(t, 9)
		c.start(t)
		eventually(t, time.Minute, "status after the restart", func() error { return c.aggregate(t.Context(), "hello", 1, 1) })
		if now := containers(t, a); now != before {
			t.Errorf("the container was replaced: before %q, now %q", before, now)
		}
	})

	t.Run("JetStream is lost and nothing restarts", func(t *testing.T) {
		life := func() string {
			return containers(t, a) + a.ShAs(t, "fleet-agent", "podman inspect -f '{{.State.StartedAt}} {{.State.Pid}}' $(podman ps -q)")
		}
		before := life()
		c.stop(t, 9)
		if err := os.RemoveAll(filepath.Join(c.dir, "nats")); err != nil {
			t.Fatal(err)
		}
		c.start(t)
		eventually(t, time.Minute, "status after JetStream was lost", func() error { return c.aggregate(t.Context(), "hello", 1, 1) })
		eventually(t, time.Minute, "pi-a is up to date", func() error {
			var d fleet.Device
			if err := c.Get(t.Context(), client.ObjectKey{Name: "pi-a"}, &d); err != nil {
				return err
			}
			for _, name := range []string{fleet.ConditionReady, fleet.ConditionConnected, fleet.ConditionUpToDate} {
				if !meta.IsStatusConditionTrue(d.Status.Conditions, name) {
					return fmt.Errorf("%+v", d.Status.Conditions)
				}
			}
			return nil
		})
		if now := life(); now != before {
			t.Errorf("something was restarted: before %q, now %q", before, now)
		}
	})

	t.Run("relabelling moves the container", func(t *testing.T) {
		c.label(t, "pi-a", "site", "nice")
		c.label(t, "pi-b", "site", "lyon")
		eventually(t, time.Minute, "page on pi-b", pageSays(b.IP(), 8080, "v2"))
		eventually(t, time.Minute, "pi-a empty", isEmpty(t, a))
		eventually(t, time.Minute, "status", func() error { return c.aggregate(t.Context(), "hello", 1, 1) })
	})

	t.Run("a reboot without network", func(t *testing.T) {
		bootID := func() string {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			// Without --wait: systemctl misses the signal it waits for when the bus comes up after it asked.
			out, err := b.Run(ctx, "cat /proc/sys/kernel/random/boot_id; systemctl is-system-running")
			if err != nil || !strings.Contains(out.Stdout, "running") && !strings.Contains(out.Stdout, "degraded") {
				return ""
			}
			return strings.TrimSpace(out.Stdout)
		}
		before := b.Sh(t, "cat /proc/sys/kernel/random/boot_id")
		b.NetworkDown(t)
		b.Sh(t, "systemctl --no-block reboot")
		eventually(t, time.Minute, "pi-b up again", func() error {
			if now := bootID(); now == "" || strings.Contains(now, strings.TrimSpace(before)) {
				return errors.New("not yet")
			}
			return nil
		})
		inside := &http.Client{Transport: &http.Transport{DialContext: b.Dial}, Timeout: 2 * time.Second}
		eventually(t, 30*time.Second, "page inside pi-b", func() error {
			response, err := inside.Get("http://127.0.0.1:8080/")
			if err != nil {
				return err
			}
			return response.Body.Close()
		})
		b.NetworkUp(t)
		eventually(t, time.Minute, "ping", func() error {
			if _, stderr, code := c.tryFleetctl(t, "ping", "pi-b"); code != 0 {
				return errors.New(stderr)
			}
			return nil
		})
	})

	t.Run("a deleted device is off-boarded", func(t *testing.T) {
		if containers(t, b) == "" {
			t.Fatal("pi-b runs nothing")
		}
		began := time.Now()
		if err := c.Delete(t.Context(), &fleet.Device{ObjectMeta: metav1.ObjectMeta{Name: "pi-b"}}); err != nil {
			t.Fatal(err)
		}
		eventually(t, 10*time.Second, "the object is gone", func() error {
			if c.registered(t, "pi-b") {
				return errors.New("still there")
			}
			return nil
		})
		t.Logf("off-boarded in %s", time.Since(began).Round(10*time.Millisecond))
		if _, stderr, code := c.tryFleetctl(t, "ping", "pi-b"); code == 0 || !strings.Contains(stderr, "no device pi-b") {
			t.Errorf("ping of a device that is no more: exit code %d, %s", code, stderr)
		}
		eventually(t, time.Minute, "pi-b empty", isEmpty(t, b))
		if c.registered(t, "pi-b") {
			t.Error("the device came back by itself")
		}
		c.onboard(t, b, "pi-b", append(registryFlag, "--label", "site=lyon")...)
		eventually(t, time.Minute, "page on pi-b again", pageSays(b.IP(), 8080, "v2"))
		eventually(t, time.Minute, "status", func() error { return c.aggregate(t.Context(), "hello", 1, 1) })
	})

	t.Run("delete", func(t *testing.T) {
		c.fleetctl(t, "deploy", "hello", "--delete", "--yes")
		eventually(t, time.Minute, "pi-b empty", isEmpty(t, b))
		eventually(t, time.Minute, "object gone", func() error {
			err := c.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: "hello"}, &fleet.Deployment{})
			if apierrors.IsNotFound(err) {
				return nil
			}
			return fmt.Errorf("still there: %w", err)
		})
		// Nothing is desired any more: the manifest that each device holds is empty.
		for _, h := range []*testhost.Host{a, b} {
			if out := h.Sh(t, `grep -rl '"deployment":"hello"' /var/lib/fleet-agent || true`); out != "" {
				t.Errorf("%s still holds a desired state: %s", h.Hostname(), out)
			}
		}
	})
}

// label sets a label as an administrator does: kubectl label fleetdev.
func (c *controlPlane) label(t *testing.T, device, key, value string) {
	t.Helper()
	d := fleet.Device{ObjectMeta: metav1.ObjectMeta{Name: device}}
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%q}}}`, key, value)
	if err := c.Patch(t.Context(), &d, client.RawPatch("application/merge-patch+json", []byte(patch))); err != nil {
		t.Fatal(err)
	}
}

func isEmpty(t *testing.T, h *testhost.Host) func() error {
	return func() error {
		if got := containers(t, h); got != "" {
			return fmt.Errorf("runs %s", got)
		}
		return nil
	}
}
