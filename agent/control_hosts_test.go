//go:build hosts

package agent_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/testhost/registry"
	"github.com/nationtech/fleetctl/internal/wire"
)

// What happens to containers by hand is put right, and what is not ours is
// left alone.
func TestDrift(t *testing.T) {
	for _, suite := range []string{"bookworm", "trixie"} {
		t.Run(suite, func(t *testing.T) {
			d := newDevice(t, suite)
			image := registry.PushApp(t, d.registry, "hello", "v1")
			bystander := d.user("podman run -d --name bystander --label mine=1 --tls-verify=false " + image)
			d.fleet.deploy("web", 1,
				wire.Service{Name: "a", Image: image, Ports: []string{"8080:8080"}},
				wire.Service{Name: "b", Image: image})
			d.fleet.await("running", phase("web", 1, wire.PhaseRunning))
			a, b := d.container("fleet-web-a"), d.container("fleet-web-b")

			for _, tc := range []struct {
				name, script string
				same         bool // it is the same container that is put right
			}{
				{"stopped", "podman stop -t 0 fleet-web-a", true},
				{"killed", "podman kill fleet-web-a", true},
				{"removed", "podman rm -f -t 0 fleet-web-a", false},
				// These two end no process: the tick finds them.
				{"renamed and paused", "podman rename fleet-web-a other-name; podman pause other-name", true},
			} {
				t.Run(tc.name, func(t *testing.T) {
					out := d.user(tc.script + " 2>&1 || echo refused")
					if strings.Contains(out, "refused") {
						t.Skipf("Podman cannot do this here: %s", out)
					}
					began := time.Now()
					d.until("put right", func() bool {
						return d.user("podman ps -q --no-trunc --filter name='^fleet-web-a$' --filter status=running") != ""
					})
					t.Logf("put right within %s", time.Since(began).Round(time.Millisecond))
					if now := d.container("fleet-web-a"); (now == a) != tc.same {
						t.Errorf("container %s became %s", a, now)
					}
					a = d.container("fleet-web-a")
					if !strings.Contains(d.page(8080, "/"), "v1") {
						t.Error("no page")
					}
				})
			}
			if d.container("fleet-web-b") != b {
				t.Error("a service that nobody touched was replaced")
			}
			if d.container("bystander") != bystander || d.user("podman inspect -f '{{.State.StartedAt}} {{.State.Status}}' bystander | grep -c running") != "1" {
				t.Error("a container that is not ours was touched")
			}
		})
	}
}

// A foreign container with our name is reported and left alone, and so is one
// that carries our label without saying what it is.
func TestForeignContainers(t *testing.T) {
	d := newDevice(t, "bookworm")
	image := registry.PushApp(t, d.registry, "hello", "v1")
	foreign := d.user("podman run -d --name fleet-web-a --tls-verify=false " + image)
	labelled := d.user("podman run -d --name labelled --label fleet.nationtech.io/managed=true " + image)
	halfway := d.user("podman run -d --name halfway --label fleet.nationtech.io/managed=false --label fleet.nationtech.io/deployment=web --label fleet.nationtech.io/service=a " + image)
	d.fleet.deploy("web", 1, wire.Service{Name: "a", Image: image}, wire.Service{Name: "b", Image: image})
	s := d.fleet.await("refused", phase("web", 1, wire.PhaseFailed))
	if m := s.Deployments[0].Message; !strings.Contains(m, "fleet-web-a") || !strings.Contains(m, "not managed") {
		t.Errorf("message: %q", m)
	}
	d.until("the other service runs", func() bool { return d.container("fleet-web-b") != "" })

	d.user("podman rename fleet-web-a somebody-elses")
	d.fleet.await("running once the name is free", phase("web", 1, wire.PhaseRunning))
	d.fleet.remove("web")
	d.fleet.await("gone", gone("web"))
	for name, id := range map[string]string{"somebody-elses": foreign, "labelled": labelled, "halfway": halfway} {
		if got := d.user("podman ps -q --no-trunc --filter name='^" + name + "$' --filter status=running"); got != id {
			t.Errorf("foreign container %s: %q, want it running as %s", name, got, id)
		}
	}
}

// Nothing that one deployment does holds up another.
func TestDeploymentsDoNotHoldUpEachOther(t *testing.T) {
	d := newDevice(t, "bookworm")
	v1 := registry.PushApp(t, d.registry, "hello", "v1")
	stubborn := pushStubborn(t, d.registry)
	timeout := &wire.Duration{Duration: 12 * time.Second}
	d.fleet.deploy("stubborn", 1, wire.Service{Name: "s", Image: stubborn, Ports: []string{"8090:8090"}, StopTimeout: timeout})
	d.fleet.deploy("missing", 1, wire.Service{Name: "m", Image: d.registry.Addr() + "/nothing:v1"})
	d.fleet.deploy("tls", 1, wire.Service{Name: "t", Image: "127.0.0.1:1/x:v1"})
	d.fleet.deploy("path", 1, wire.Service{Name: "p", Image: v1, Volumes: []wire.Volume{{HostPath: "/not/there", ContainerPath: "/data"}}})
	d.fleet.deployScore("future", 1, wire.Score{Type: "WasmV9", Data: []byte(`{}`)})
	d.fleet.deployScore("broken", 1, wire.Score{Type: wire.ScorePodmanV0, Data: []byte(`{"services":[{"name":"x","image":"y","colour":1}]}`)})
	d.fleet.deploy("web", 1, wire.Service{Name: "a", Image: v1, Ports: []string{"8080:8080"}})
	d.fleet.await("web runs", phase("web", 1, wire.PhaseRunning))
	d.fleet.await("stubborn runs", phase("stubborn", 1, wire.PhaseRunning))
	for name, want := range map[string]string{
		"missing": "nothing:v1", "tls": "127.0.0.1:1", "path": "/not/there", "future": "WasmV9", "broken": "colour",
	} {
		s := d.fleet.await(name+" failed", phase(name, 1, wire.PhaseFailed))
		for _, got := range s.Deployments {
			if got.Name == name {
				t.Logf("%s: %s", name, got.Message)
				if !strings.Contains(got.Message, want) {
					t.Errorf("%s: message %q lacks %q", name, got.Message, want)
				}
			}
		}
	}

	// The stubborn one takes 12 s to stop, and its port goes to another one
	// right after; meanwhile an upgrade elsewhere goes through.
	began := time.Now()
	d.fleet.remove("stubborn")
	d.fleet.deploy("heir", 1, wire.Service{Name: "h", Image: v1, Ports: []string{"8090:8080"}})
	d.fleet.deploy("web", 2, wire.Service{Name: "a", Image: v1, Ports: []string{"8081:8080"}})
	d.fleet.await("removing is reported", func(s wire.DeviceState) bool {
		for _, got := range s.Deployments {
			if got.Name == "stubborn" {
				return got.Phase == wire.PhaseRemoving
			}
		}
		return false
	})
	d.fleet.await("web is upgraded meanwhile", phase("web", 2, wire.PhaseRunning))
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("the upgrade waited %s for another deployment's stop", took)
	}
	d.fleet.awaitFor(40*time.Second, "stubborn is gone", gone("stubborn"))
	if took := time.Since(began); took < 10*time.Second {
		t.Errorf("killed after %s, though it had 12 s to stop", took)
	}
	d.fleet.await("heir runs", phase("heir", 1, wire.PhaseRunning))
	if !strings.Contains(d.page(8090, "/"), "v1") {
		t.Error("the heir has not the port")
	}
}

// A reboot without network: everything is up again from disk, once.
func TestRebootOffline(t *testing.T) {
	for _, suite := range []string{"bookworm", "trixie"} {
		t.Run(suite, func(t *testing.T) {
			d := newDevice(t, suite)
			image := registry.PushApp(t, d.registry, "hello", "v1")
			var services []wire.Service
			for i, policy := range []wire.RestartPolicy{"", wire.RestartAlways, wire.RestartOnFailure, wire.RestartNo} {
				services = append(services, wire.Service{Name: fmt.Sprint("s", i), Image: image, RestartPolicy: policy, Ports: []string{fmt.Sprintf("808%d:8080", i)}})
			}
			d.fleet.deploy("web", 1, services...)
			d.fleet.await("running", phase("web", 1, wire.PhaseRunning))
			ids := d.user("podman ps -q --no-trunc | sort")
			for _, how := range []string{"reboot without a cable", "power cut, no control plane"} {
				if how == "reboot without a cable" {
					d.rebootOffline()
				} else {
					d.fleet.stop()
					d.NetworkUp(t)
					d.Kill(t)
					d.PowerOn(t)
				}
				began := time.Now()
				d.until("containers run", func() bool {
					return d.works() && len(lines(d.user("podman ps -q --filter status=running"))) >= 3
				})
				t.Logf("%s: up %s after the boot; %s", how, time.Since(began).Round(time.Millisecond),
					strings.ReplaceAll(d.user("podman ps -a --format '{{.Names}} {{.Status}}'"), "\n", "; "))
				if now := d.user("podman ps -aq --no-trunc | sort"); now != ids {
					t.Errorf("containers were replaced:\n%s\n%s", ids, now)
				}
				if d.user("podman inspect -f '{{.State.Status}}' fleet-web-s2") != "running" {
					t.Error("a service that restarts on failure was ended by the reboot and not started again")
				}
			}
			started := d.user("podman inspect -f '{{.State.StartedAt}}' fleet-web-s0 fleet-web-s1 fleet-web-s2")
			d.fleet.start()
			d.fleet.awaitFor(90*time.Second, "reported after the network is back", func(s wire.DeviceState) bool {
				return s.Revision == 1 && s.At.After(time.Now().Add(-5*time.Second))
			})
			if now := d.user("podman inspect -f '{{.State.StartedAt}}' fleet-web-s0 fleet-web-s1 fleet-web-s2"); now != started {
				t.Errorf("the network coming back restarted something:\n%s\n%s", started, now)
			}
		})
	}
}

// Podman's socket goes away and comes back.
func TestSocketGoneAndBack(t *testing.T) {
	d := newDevice(t, "bookworm")
	image := registry.PushApp(t, d.registry, "hello", "v1")
	d.fleet.deploy("web", 1, wire.Service{Name: "a", Image: image})
	d.fleet.await("running", phase("web", 1, wire.PhaseRunning))
	a := d.container("fleet-web-a")
	// The socket first: one that still listens starts the service again.
	d.user("systemctl --user stop podman.socket && systemctl --user stop podman.service")
	// The service goes on answering the connections that it has; this ends it.
	d.Sh(t, "pkill -KILL -f '[p]odman.* system service' || true")
	d.fleet.deploy("more", 1, wire.Service{Name: "b", Image: image})
	s := d.fleet.await("the reason is reported", func(s wire.DeviceState) bool { return strings.Contains(s.Error, "podman.sock") })
	if !phase("web", 1, wire.PhaseRunning)(s) {
		t.Errorf("a container that runs on was reported otherwise: %+v", s.Deployments)
	}
	d.user("systemctl --user start podman.socket")
	d.fleet.await("the rest is made", phase("more", 1, wire.PhaseRunning))
	d.fleet.await("nothing is in the way any more", func(s wire.DeviceState) bool { return s.Error == "" })
	if d.container("fleet-web-a") != a {
		t.Error("the container was replaced")
	}
}
