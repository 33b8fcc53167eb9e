//go:build hosts

package agent_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/commands"
	"github.com/nationtech/fleetctl/internal/testhost/registry"
	"github.com/nationtech/fleetctl/internal/wire"
)

var kills = flag.Int("soak.kills", 3, "how often the agent is killed as it works")

// life tells whether containers are the same ones, never started again.
func (d *device) life() string {
	d.t.Helper()
	return d.user("podman inspect -f '{{.Name}} {{.Id}} {{.State.StartedAt}}' $(podman ps -aq) 2>/dev/null | sort")
}

// env is what the app in a container has for a variable.
func (d *device) env(container, name string) string {
	d.t.Helper()
	return d.user("podman inspect -f '{{range .Config.Env}}{{println .}}{{end}}' " + container + " | sed -n 's/^" + name + "=//p'")
}

// generation is a service whose environment says of which one it is. It may be
// replaced when it has hardly begun, and then misses the signal to stop.
func generation(name, image string, n int64, more ...wire.EnvVar) wire.Service {
	return wire.Service{
		Name: name, Image: image, Env: append(more, wire.EnvVar{Name: "GENERATION", Value: fmt.Sprint(n)}),
		StopTimeout: &wire.Duration{Duration: 2 * time.Second},
	}
}

// What befalls a device, one thing after the other, on one that goes on working.
func TestFaultsOnPodman(t *testing.T) {
	random := rand.New(rand.NewPCG(*seed, 1))
	t.Logf("seed %d (-soak.seed)", *seed)
	d := newDevice(t, "trixie")
	f := d.fleet
	image := registry.PushApp(t, d.registry, "hello", "v1")
	steady := wire.Service{Name: "steady", Image: image}
	f.deploy("calm", 1, steady)
	f.await("running", phase("calm", 1, wire.PhaseRunning))
	calm := d.user("podman inspect -f '{{.Id}} {{.State.StartedAt}}' fleet-calm-steady")
	untouched := func() {
		t.Helper()
		if now := d.user("podman inspect -f '{{.Id}} {{.State.StartedAt}}' fleet-calm-steady"); now != calm {
			t.Errorf("a service that has nothing to do with it was touched: %s, before %s", now, calm)
			calm = now
		}
	}

	t.Run("killed at random moments of its work", func(t *testing.T) {
		n := int64(0)
		for range *kills {
			n++
			f.deploy("web", n, generation("a", image, n), generation("b", image, n), wire.Service{Name: "c", Image: image, DependsOn: []string{"b"}})
			after := time.Duration(random.Int64N(int64(time.Second)))
			time.Sleep(after)
			d.Sh(t, "pkill -KILL -x fleet-agent")
			killed := time.Now()
			// It may have been done, and said so, before it was killed: what counts is what the next one says.
			f.awaitFor(time.Minute, fmt.Sprintf("generation %d, killed after %s", n, after), func(s wire.DeviceState) bool {
				return s.At.After(killed) && phase("web", n, wire.PhaseRunning)(s)
			})
			if got := lines(d.user("podman ps -aq")); len(got) != 4 {
				t.Errorf("killed after %s: %d containers, want 4", after, len(got))
			}
			for _, name := range []string{"fleet-web-a", "fleet-web-b"} {
				if got := d.env(name, "GENERATION"); got != fmt.Sprint(n) {
					t.Errorf("killed after %s: %s is of generation %s, want %d", after, name, got, n)
				}
			}
			untouched()
		}
		if left := d.Sh(t, "ls -A /var/lib/fleet-agent | grep '^.new-' || true"); left != "" {
			t.Errorf("left behind: %s", left)
		}
		f.remove("web")
		f.await("gone", gone("web"))
	})

	t.Run("depends on what is healthy", func(t *testing.T) {
		d.makeData()
		late := generation("late", image, 1)
		late.DependsOn = []string{"early"}
		early := wire.Service{
			Name: "early", Image: image, Volumes: []wire.Volume{{HostPath: "/var/lib/fleet-agent/data", ContainerPath: "/data"}},
			HealthCheck: &wire.HealthCheck{Command: []string{"/app", "exists", "/data/ready"}, Interval: &wire.Duration{Duration: time.Second}, StartPeriod: &wire.Duration{Duration: time.Minute}},
		}
		f.deploy("order", 1, late, early)
		f.await("running, and not healthy", func(s wire.DeviceState) bool {
			return phase("order", 1, wire.PhasePending)(s) && strings.Contains(fmt.Sprint(s.Deployments), "not healthy yet")
		})
		if d.container("fleet-order-late") != "" {
			t.Error("started before what it depends on was healthy")
		}
		d.user("touch ~/data/ready")
		f.await("both", phase("order", 1, wire.PhaseRunning))
		f.remove("order")
		f.await("gone", gone("order"))
	})

	t.Run("what a person stopped stays stopped", func(t *testing.T) {
		f.deploy("shop", 1, steady)
		f.await("running", phase("shop", 1, wire.PhaseRunning))
		hand := func(verb wire.Verb) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			sender := commands.NewSender(f.api, signer{f})
			if err := sender.Stream(ctx, request(verb, `{"deployment":"shop"}`), func([]byte) error { return nil }); err != nil {
				t.Fatalf("%s: %v", verb, err)
			}
		}
		hand(wire.VerbStop)
		f.await("stopped", phase("shop", 1, wire.PhaseStopped))
		d.Sh(t, "systemctl restart fleet-agent")
		d.rebootOffline()
		d.until("the others run", func() bool { return d.works() && d.user("podman ps -q --filter name='^fleet-calm-steady$'") != "" })
		d.NetworkUp(t)
		f.await("still stopped", func(s wire.DeviceState) bool {
			return phase("shop", 1, wire.PhaseStopped)(s) && phase("calm", 1, wire.PhaseRunning)(s) && time.Since(s.At) < 5*time.Second
		})
		if d.user("podman ps -q --filter name='^fleet-shop-steady$'") != "" {
			t.Error("it runs")
		}
		f.deploy("shop", 2, generation("steady", image, 2))
		f.await("a new version, stopped", phase("shop", 2, wire.PhaseStopped))
		hand(wire.VerbStart)
		f.await("started", phase("shop", 2, wire.PhaseRunning))
		if got := d.env("fleet-shop-steady", "GENERATION"); got != "2" {
			t.Errorf("started generation %q", got)
		}
		f.remove("shop")
		f.await("gone", gone("shop"))
		calm = d.user("podman inspect -f '{{.Id}} {{.State.StartedAt}}' fleet-calm-steady") // after the reboot
	})

	t.Run("a torn file", func(t *testing.T) {
		for n := int64(1); n <= 2; n++ {
			f.deploy("web", n, generation("a", image, n))
			f.await("running", phase("web", n, wire.PhaseRunning))
		}
		torn := func(files string) {
			t.Helper()
			d.NetworkDown(t)
			d.Sh(t, "systemctl stop fleet-agent; cd /var/lib/fleet-agent; for x in "+files+"; do head -c 200 $x >x; rm $x; cat x >$x; rm x; chown fleet-agent: $x; done; systemctl start fleet-agent")
		}
		torn("desired.json")
		d.until("the previous state is in force", func() bool { return d.env("fleet-web-a", "GENERATION") == "1" })
		d.NetworkUp(t)
		d.until("the present one is again", func() bool { return d.env("fleet-web-a", "GENERATION") == "2" })
		f.await("running", phase("web", 2, wire.PhaseRunning))
		untouched()

		before := d.life()
		torn("desired.json desired.previous.json images.json stopped.json runs.json nonces.json")
		d.until("it works, without knowing what on", func() bool {
			return strings.Contains(d.Sh(t, "journalctl -u fleet-agent -o cat --no-pager -n 40"), "damaged")
		})
		if now := d.life(); now != before {
			t.Errorf("with nothing known, something was done:\n%s\nbefore:\n%s", now, before)
		}
		d.NetworkUp(t)
		f.awaitFor(time.Minute, "reported", func(s wire.DeviceState) bool {
			return phase("web", 2, wire.PhaseRunning)(s) && s.Error == "" && time.Since(s.At) < 5*time.Second
		})
		if now := d.life(); now != before {
			t.Errorf("told the same again, something was done:\n%s\nbefore:\n%s", now, before)
		}
		f.remove("web")
		f.await("gone", gone("web"))
	})
}

// A disk that fills up: unused images go first, then the device says so; on a
// full one nothing is lost, and it goes on when there is room.
func TestDiskOnPodman(t *testing.T) {
	d := newDevice(t, "trixie")
	f := d.fleet
	d.smallDisk(96)
	v1, v2 := registry.PushApp(t, d.registry, "hello", "v1"), registry.PushApp(t, d.registry, "hello", "v2")
	f.deploy("web", 1, wire.Service{Name: "a", Image: v1})
	f.await("running", phase("web", 1, wire.PhaseRunning))
	f.deploy("web", 2, wire.Service{Name: "a", Image: v2})
	f.await("upgraded", phase("web", 2, wire.PhaseRunning))
	foreign := d.registry.Addr() + "/foreign:v1"
	d.user("podman tag " + v2 + " " + foreign)
	images := func() string {
		return d.user("podman images --format '{{.Repository}}:{{.Tag}}' | sort | tr '\\n' ' '")
	}
	if got := images(); !strings.Contains(got, v1) {
		t.Fatalf("the image before is gone already: %s", got)
	}
	// fill leaves so many KiB, and has the agent look at the disk at once.
	fill := func(left int) {
		t.Helper()
		d.Sh(t, fmt.Sprintf("cd /var/lib/fleet-agent && rm -f filler && free=$(df --output=avail -k . | tail -n1) && fallocate -l $((free - %d))K filler; systemctl restart fleet-agent", left))
	}
	fill(6 << 10)
	d.until("the unused image is gone", func() bool { return !strings.Contains(images(), v1) })
	if got := images(); !strings.Contains(got, v2) || !strings.Contains(got, foreign) {
		t.Errorf("images that are in use, or not the agent's, are gone too: %s", got)
	}
	fill(2 << 10)
	f.await("a warning", func(s wire.DeviceState) bool { return strings.Contains(strings.Join(s.Warnings, " "), "nearly full") })

	fill(0)
	d.Sh(t, "cat /dev/zero > /var/lib/fleet-agent/rest 2>/dev/null || true") // to the last block
	running := d.user("podman ps -q --no-trunc")
	large := wire.EnvVar{Name: "PADDING", Value: strings.Repeat("x", 32<<10-1)} // what is told has no room either
	f.deploy("web", 3, generation("a", v2, 3, large))
	s := f.await("said", func(s wire.DeviceState) bool {
		return strings.Contains(s.Error, "no space left") && phase("web", 3, wire.PhaseFailed)(s)
	})
	if got := service(t, s, "web"); got.Reason != wire.ReasonDiskFull {
		t.Errorf("reason %q, message %q", got.Reason, got.Message)
	}
	restarted := time.Now()
	d.Sh(t, "systemctl restart fleet-agent")
	f.await("reported", func(s wire.DeviceState) bool { return s.At.After(restarted) && len(s.Deployments) == 1 })
	if got := d.loaded(); !strings.Contains(got, "revision=2") {
		t.Errorf("what was desired before is lost: %s", got)
	}
	if now := d.user("podman ps -q --no-trunc"); now != running || now == "" {
		t.Errorf("what ran does not any more: %q, before %q", now, running)
	}
	d.Sh(t, "rm -f /var/lib/fleet-agent/filler /var/lib/fleet-agent/rest")
	f.awaitFor(time.Minute, "goes on when there is room", func(s wire.DeviceState) bool {
		return phase("web", 3, wire.PhaseRunning)(s) && s.Error == "" && len(s.Warnings) <= 1
	})
	d.Sh(t, "systemctl restart fleet-agent")
	if got := d.loaded(); !strings.Contains(got, fmt.Sprintf("revision=%d ", f.revision)) {
		t.Errorf("on the disk is %s, want revision %d", got, f.revision)
	}
}

// loaded is what the agent says that it found on the disk when it started last.
func (d *device) loaded() string {
	d.t.Helper()
	return d.Sh(d.t, "journalctl -u fleet-agent -o cat --no-pager | grep 'desired state loaded from disk' | tail -n1")
}

// smallDisk puts the agent's directory, with all images and containers, on a
// disk of its own, of so many MiB.
func (d *device) smallDisk(size int) {
	d.t.Helper()
	d.Sh(d.t, fmt.Sprintf(`systemctl stop fleet-agent user@$(id -u fleet-agent)
		cp -a /var/lib/fleet-agent /root/agent
		mount -t tmpfs -o size=%dM,mode=0755 tmpfs /var/lib/fleet-agent
		cp -a /root/agent/. /var/lib/fleet-agent/ && chown fleet-agent: /var/lib/fleet-agent
		systemctl start user@$(id -u fleet-agent)`, size))
	d.user("systemctl --user start podman.socket")
	d.Sh(d.t, "systemctl start fleet-agent")
}
