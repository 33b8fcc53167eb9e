//go:build hosts

package agent_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/testhost/registry"
	"github.com/nationtech/fleetctl/internal/wire"
)

// What an agent in its unit's sandbox shows of real containers, on either kind
// of address.
func TestMetricsOnADevice(t *testing.T) {
	d := newDevice(t, "trixie")
	image := registry.PushApp(t, d.registry, "hello", "v1")
	d.Sh(t, `printf '[metrics]\nlisten = "/run/fleet-agent/metrics.sock"\n' >> /etc/fleet-agent/config.toml && systemctl restart fleet-agent`)
	if got := strings.TrimSpace(d.Sh(t, "for i in $(seq 100); do test -S /run/fleet-agent/metrics.sock && break; sleep 0.1; done; stat -c '%a %U' /run/fleet-agent/metrics.sock")); got != "660 fleet-agent" {
		t.Errorf("the socket is %q", got)
	}
	d.Sh(t, `sed -i 's|^listen.*|listen = "127.0.0.1:9464"|' /etc/fleet-agent/config.toml && systemctl restart fleet-agent`)
	d.fleet.deploy("web", 1, wire.Service{Name: "a", Image: image})
	d.fleet.await("running", phase("web", 1, wire.PhaseRunning))
	d.user("podman rename fleet-web-a somebody-elses")
	wants := []string{
		`fleet_agent_containers{phase="Running"} 1`, "fleet_agent_drift_repairs_total 1\n", "fleet_agent_containers_created_total 1\n",
		"fleet_agent_connected 1\n", `fleet_agent_fault{part="engine"} 0`,
	}
	deadline := time.Now().Add(patience)
	for {
		page := d.Sh(t, `bash -c 'exec 3<>/dev/tcp/127.0.0.1/9464 && printf "GET /metrics HTTP/1.0\r\n\r\n" >&3 && cat <&3'`)
		missing := ""
		for _, want := range wants {
			if !strings.Contains(page, want) {
				missing = want
			}
		}
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %s in\n%s", missing, page)
		}
		time.Sleep(200 * time.Millisecond)
	}
}
