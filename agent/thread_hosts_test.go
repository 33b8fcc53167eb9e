//go:build hosts

package agent_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/testhost/registry"
	"github.com/nationtech/fleetctl/internal/wire"
)

// One device, from nothing to a page, through an upgrade, to nothing.
func TestThread(t *testing.T) {
	for _, suite := range []string{"bookworm", "trixie"} {
		t.Run(suite, func(t *testing.T) {
			d := newDevice(t, suite)
			v1 := registry.PushApp(t, d.registry, "hello", "v1")
			v2 := registry.PushApp(t, d.registry, "hello", "v2")
			service := func(name, image, port string) wire.Service {
				return wire.Service{Name: name, Image: image, Ports: []string{port + ":8080"}, Env: []wire.EnvVar{{Name: "GREETING", Value: "salut"}}}
			}
			d.fleet.deploy("web", 1, service("front", v1, "8080"), service("back", v1, "8081"))
			running := d.fleet.await("running", phase("web", 1, wire.PhaseRunning))
			if s := running.Deployments[0].Services; len(s) != 2 || s[0].ContainerID == "" || s[0].ImageDigest == "" || s[0].StartedAt == nil {
				t.Errorf("reported services lack something: %+v", s)
			}
			if page := d.page(8080, "/"); !strings.Contains(page, "version v1") {
				t.Errorf("page: %s", page)
			}
			if page := d.page(8081, "/env/GREETING"); !strings.Contains(page, "salut") {
				t.Errorf("environment: %s", page)
			}

			// Exactly the changed service is replaced, also when it keeps its port.
			back := d.container("fleet-web-back")
			d.fleet.deploy("web", 2, service("front", v2, "8080"), service("back", v1, "8081"))
			d.fleet.await("upgraded", phase("web", 2, wire.PhaseRunning))
			if page := d.page(8080, "/"); !strings.Contains(page, "version v2") {
				t.Errorf("page after the upgrade: %s", page)
			}
			if d.container("fleet-web-back") != back {
				t.Error("the service that did not change was replaced")
			}

			// Image present: how long from manifest to report.
			began := time.Now()
			d.fleet.deploy("more", 1, service("front", v1, "8082"))
			d.fleet.await("second deployment", phase("more", 1, wire.PhaseRunning))
			t.Logf("manifest to running, image present: %s", time.Since(began).Round(time.Millisecond))

			d.fleet.remove("web")
			d.fleet.await("removed", gone("web"))
			if left := lines(d.user("podman ps -a --format '{{.Names}}'")); len(left) != 1 || left[0] != "fleet-more-front" {
				t.Errorf("containers left: %v", left)
			}

			info := d.fleet.info
			if info.Labels["topology.example.com/site"] != "lyon" || info.Inventory.PodmanVersion == "" || info.MachineID == "" {
				t.Errorf("device info: %+v", info)
			}
			status := d.Sh(t, "systemctl show -P StatusText fleet-agent; ps -o rss= -C fleet-agent")
			t.Logf("status and resident KiB: %s", status)
		})
	}
}
