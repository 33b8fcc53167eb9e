//go:build hosts

package agent_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/testhost/registry"
	"github.com/nationtech/fleetctl/internal/wire"
)

// makeData makes the directory of the device that services of everyField have.
func (d *device) makeData() {
	d.t.Helper()
	d.user("mkdir -p ~/data && chmod 777 ~/data")
}

// everyField is three services that together have every field of the
// specification but limits: the second's, on which the first depends, and the
// third's, which has none. They need makeData.
func everyField(image string) []wire.Service {
	second := &wire.Duration{Duration: time.Second}
	return []wire.Service{
		{
			Name: "entry", Image: image, Entrypoint: []string{"/app", "first"}, NetworkMode: wire.NetworkNone, DependsOn: []string{"full"},
			HealthCheck:   &wire.HealthCheck{Command: []string{"/app", "exists", "/app"}, Interval: second},
			RestartPolicy: wire.RestartOnFailure,
		},
		{
			Name: "full", Image: image, Ports: []string{"8080:8080", "127.0.0.1:5353:53/udp"},
			Env:     []wire.EnvVar{{Name: "GREETING", Value: "salut"}, {Name: "APP_VERSION", Value: "own"}},
			Volumes: []wire.Volume{{HostPath: "/var/lib/fleet-agent/data", ContainerPath: "/data"}, {HostPath: "/etc/hostname", ContainerPath: "/h", ReadOnly: true}},
			Command: []string{"serve", "two words"}, User: "1000:1001", WorkingDir: "/data",
			Labels:      map[string]string{"team": "web", "org.example/a": "b"},
			HealthCheck: &wire.HealthCheck{HTTP: &wire.HTTPCheck{Port: 8080, Path: "/process"}, Interval: second},
			Devices:     []string{"/dev/null:/dev/nothing"}, Tmpfs: []wire.Tmpfs{{Path: "/scratch", Size: "1Mi"}},
			StopTimeout: &wire.Duration{Duration: 7 * time.Second},
		},
		{Name: "plain", Image: image, RestartPolicy: wire.RestartNo},
	}
}

// Every field of the specification gets to a real container, and afterwards
// nothing is taken for drift that Podman only filled in.
func TestSpecOnPodman(t *testing.T) {
	for _, suite := range []string{"bookworm", "trixie"} {
		t.Run(suite, func(t *testing.T) {
			d := newDevice(t, suite)
			image := registry.PushApp(t, d.registry, "hello", "v1")
			d.makeData()
			// The memory and cpu controllers are the machine's to give.
			limited := strings.Contains(d.user("cat /sys/fs/cgroup/user.slice/user-$(id -u).slice/user@$(id -u).service/cgroup.controllers"), "cpu memory")
			services := everyField(image)
			full, plain := &services[1], services[2]
			if limited {
				full.Limits = &wire.Limits{CPUs: "0.5", Memory: "64Mi"}
			} else {
				t.Log("LIMITS NOT TESTED: this machine gives its users no cgroup controllers")
			}
			host := wire.Service{Name: "host", Image: image, NetworkMode: wire.NetworkHost, Command: []string{"x"}, RestartPolicy: wire.RestartAlways}
			host.Env = []wire.EnvVar{{Name: "TERM", Value: "dumb"}, {Name: "PATH", Value: "/"}}
			d.fleet.deploy("web", 1, services...)
			s := d.fleet.await("running", phase("web", 1, wire.PhaseRunning))
			for _, got := range s.Deployments[0].Services {
				if want := map[string]wire.Health{"full": wire.HealthHealthy, "entry": wire.HealthHealthy}[got.Name]; got.Health != want {
					t.Errorf("%s: health %q, want %q", got.Name, got.Health, want)
				}
			}
			for path, want := range map[string]string{
				"/process": `uid 1000 gid 1001 dir /data args ["serve" "two words"]`, "/env/GREETING": "salut", "/": "version own", "/file/h": deviceID,
			} {
				if got := d.page(8080, path); !strings.Contains(got, want) {
					t.Errorf("%s: %q lacks %q", path, got, want)
				}
			}
			pid := d.user("podman inspect -f '{{.State.Pid}}' fleet-web-full")
			if got := d.Sh(t, "cd /sys/fs/cgroup/$(sed -n 's/^0:://p' /proc/"+pid+"/cgroup) && cat memory.max cpu.max || true"); limited && !strings.Contains(got, "67108864") || limited && !strings.Contains(got, "50000 100000") {
				t.Errorf("limits in force: %q", got)
			}
			started := func() string {
				return d.user("podman inspect -f '{{.Name}} {{.Id}} {{.State.StartedAt}}' $(podman ps -aq) | sort")
			}
			// The app listens on the port that is published for the other.
			d.fleet.deploy("web", 2, append(services[:2:2], plain)...)
			d.fleet.await("the next generation", phase("web", 2, wire.PhaseRunning))
			before := started()
			d.Sh(t, "systemctl restart fleet-agent")
			d.fleet.deploy("web", 3, services...)
			d.fleet.await("once more", phase("web", 3, wire.PhaseRunning))
			if now := started(); now != before {
				t.Errorf("nothing changed, and yet:\n%s\n%s", before, now)
			}
			if log := d.Sh(t, "journalctl -u fleet-agent --no-pager -o cat | grep differs_in || true"); log != "" {
				t.Errorf("taken for drift: %s", log)
			}

			d.fleet.remove("web")
			d.fleet.await("gone", gone("web"))
			d.fleet.deploy("host", 1, host)
			d.fleet.await("running", phase("host", 1, wire.PhaseRunning))
			before = started()
			d.Sh(t, "systemctl restart fleet-agent")
			d.fleet.deploy("host", 2, host)
			d.fleet.await("once more", phase("host", 2, wire.PhaseRunning))
			if now := started(); now != before {
				t.Errorf("nothing changed, and yet:\n%s\n%s", before, now)
			}

			// Unhealthy is a failure that is named, and ends when the reason does.
			sick := plain
			sick.Volumes = full.Volumes[:1]
			sick.HealthCheck = &wire.HealthCheck{Command: []string{"/app", "exists", "/data/ok"}, Interval: &wire.Duration{Duration: time.Second}, Retries: 2}
			d.fleet.deploy("sick", 1, sick)
			failed := d.fleet.await("unhealthy", phase("sick", 1, wire.PhaseFailed))
			t.Logf("unhealthy: %+v", failed.Deployments)
			d.user("touch ~/data/ok")
			d.fleet.await("healthy", phase("sick", 1, wire.PhaseRunning))
		})
	}
}
