//go:build hosts

package agent_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/issuer/issuertest"
	"github.com/nationtech/fleetctl/internal/testhost"
	"github.com/nationtech/fleetctl/internal/testhost/registry"
	"github.com/nationtech/fleetctl/internal/wire"
)

var (
	trials  = flag.Int("soak.trials", 1, "how often each kind of drift is made")
	reboots = flag.Int("soak.reboots", 1, "how often a host is rebooted without a network")
	calm    = flag.Duration("soak.calm", 0, "how long a device is watched for restarts without a cause; 0 skips it")
	seed    = flag.Uint64("soak.seed", uint64(time.Now().UnixNano()), "seed of what is random")
)

// repairLimit is how long a repair may take.
const repairLimit = 5 * time.Second

// remade is a script that puts a container with our labels and other flags in
// the place of NAME: what a person would do by hand.
func remade(flags, image string) string {
	return `l=$(podman inspect -f '{{range $k, $v := .Config.Labels}}--label {{$k}}={{$v}} {{end}}' NAME)
		podman rm -f -t 0 NAME >/dev/null && podman run -d --name NAME --tls-verify=false $l ` + flags + " " + image + " >/dev/null"
}

// drifts are the ten kinds. In each script NAME is the container and IMAGE,
// OTHER are images; ports are what the service has.
func drifts() map[string]string {
	base := "-e GREETING=salut -v /etc/hostname:/h:ro -p 8080:8080 --restart unless-stopped --stop-timeout 2"
	return map[string]string{
		"stopped":         "podman stop -t 0 NAME",
		"removed":         "podman rm -f -t 0 NAME",
		"env changed":     remade(strings.Replace(base, "salut", "wrong", 1), "IMAGE"),
		"mount changed":   remade(strings.Replace(base, "/etc/hostname", "/etc/os-release", 1), "IMAGE"),
		"image changed":   remade(base, "OTHER"),
		"port changed":    remade(strings.Replace(base, "8080:8080", "8089:8080", 1), "IMAGE"),
		"network removed": remade(strings.Replace(base, "-p 8080:8080", "--network none", 1), "IMAGE"),
		"label removed": strings.Replace(remade(base, "IMAGE"), "podman run",
			`l=$(echo "$l" | sed 's/--label fleet.nationtech.io.spec-hash=[^ ]*//') && podman run`, 1),
		"renamed": "podman rename NAME somebody-elses",
		// Without our labels it is not ours, and nothing of it may be touched.
		"foreign with our name": "podman rename NAME moved && podman run -d --name NAME --tls-verify=false OTHER >/dev/null",
	}
}

// Ten kinds of drift, at random, are repaired within 5 seconds; what is not
// ours is never touched, and nothing is replaced that did not drift.
func TestDriftTrials(t *testing.T) {
	random := rand.New(rand.NewPCG(*seed, 0))
	t.Logf("seed %d (-soak.seed)", *seed)
	d := newDevice(t, "trixie")
	image, other := registry.PushApp(t, d.registry, "hello", "v1"), registry.PushApp(t, d.registry, "hello", "v2")
	bystander := d.user("podman run -d --name bystander --tls-verify=false " + other)
	service := wire.Service{
		Name: "a", Image: image, Ports: []string{"8080:8080"}, Env: []wire.EnvVar{{Name: "GREETING", Value: "salut"}},
		Volumes:     []wire.Volume{{HostPath: "/etc/hostname", ContainerPath: "/h", ReadOnly: true}},
		StopTimeout: &wire.Duration{Duration: 2 * time.Second},
	}
	d.fleet.deploy("web", 1, service, wire.Service{Name: "b", Image: image})
	d.fleet.await("running", phase("web", 1, wire.PhaseRunning))
	untouched := d.user("podman inspect -f '{{.Id}} {{.State.StartedAt}}' fleet-web-b")
	foreignStarted := d.user("podman inspect -f '{{.Id}} {{.State.StartedAt}}' bystander")
	right := func() bool {
		out := d.user(`podman inspect -f '{{.State.Status}} {{.ImageName}} {{index .Config.Labels "fleet.nationtech.io/spec-hash"}} {{.HostConfig.PortBindings}} {{.Config.Env}} {{.Mounts}}' fleet-web-a 2>/dev/null || true`)
		return strings.Contains(out, "running "+image) && strings.Contains(out, "8080") && !strings.Contains(out, "8089") &&
			strings.Contains(out, "GREETING=salut") && strings.Contains(out, "/etc/hostname") && !strings.Contains(out, "fleet.nationtech.io/spec-hash <")
	}
	var kinds []string
	for kind := range drifts() {
		for range *trials {
			kinds = append(kinds, kind)
		}
	}
	random.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	var worst time.Duration
	for i, kind := range kinds {
		script := strings.NewReplacer("NAME", "fleet-web-a", "IMAGE", image, "OTHER", other).Replace(drifts()[kind])
		// Held while the drift is made, so that it is whole when it is seen.
		d.Sh(t, "pkill -STOP -x fleet-agent")
		out := d.user("(" + script + ") 2>&1 || echo NOT MADE")
		if kind != "stopped" && kind != "removed" && strings.Contains(out, "NOT MADE") {
			t.Fatalf("%s: %s", kind, out)
		}
		began := time.Now()
		d.Sh(t, "pkill -CONT -x fleet-agent")
		if kind == "foreign with our name" {
			foreign := d.container("fleet-web-a")
			d.fleet.await("said to be in the way", phase("web", 1, wire.PhaseFailed))
			if got := d.user("podman inspect -f '{{.State.Status}}' " + foreign); got != "running" {
				t.Errorf("the foreign container is %s", got)
			}
			d.user("podman rm -f -t 0 " + foreign)
			began = time.Now()
		}
		d.until(fmt.Sprintf("trial %d, %s, repaired", i, kind), right)
		took := time.Since(began)
		worst = max(worst, took)
		if took > repairLimit {
			t.Errorf("trial %d, %s: repaired after %s", i, kind, took.Round(time.Millisecond))
		}
		t.Logf("%s: %s", kind, took.Round(time.Millisecond))
		d.fleet.await("running", phase("web", 1, wire.PhaseRunning))
		if got := d.user("podman ps -aq | wc -l"); got != "3" {
			t.Errorf("%s: %s containers, want 3", kind, got)
		}
	}
	t.Logf("%d trials, the slowest repaired after %s", len(kinds), worst.Round(time.Millisecond))
	if got := d.user("podman inspect -f '{{.Id}} {{.State.StartedAt}}' fleet-web-b"); got != untouched {
		t.Errorf("a service that did not drift was restarted: %s, before %s", got, untouched)
	}
	if got := d.user("podman inspect -f '{{.Id}} {{.State.StartedAt}}' bystander"); got != foreignStarted || !strings.HasPrefix(got, bystander) {
		t.Errorf("a container that is not ours was touched: %s, before %s", got, foreignStarted)
	}
}

// tokenLife is that of the tokens of a device which reboots: short, so that each
// of them has ended before the network is back.
const tokenLife = 12 * time.Second

// Reboots without a network, after which no token that the device had holds any
// more: containers run within 30 seconds, the same ones, started once; and with
// the network the device is back by itself, with a new token, and starts nothing.
func TestOfflineReboots(t *testing.T) {
	d := newDeviceOf(t, "trixie", &issuertest.Options{Host: testhost.HarnessIP, MachineToken: tokenLife})
	image := registry.PushApp(t, d.registry, "hello", "v1")
	d.fleet.deploy("web", 1, wire.Service{Name: "a", Image: image, Ports: []string{"8080:8080"}}, wire.Service{Name: "b", Image: image, DependsOn: []string{"a"}})
	d.fleet.await("running", phase("web", 1, wire.PhaseRunning))
	ids := d.user("podman ps -q --no-trunc | sort")
	started := func() string {
		return d.user("podman inspect -f '{{.Id}} {{.State.StartedAt}}' $(podman ps -q) | sort")
	}
	var worst, worstBack time.Duration
	for i := range *reboots {
		offline := time.Now()
		d.rebootOffline()
		began := time.Now()
		d.until("containers run", func() bool {
			return d.works() && d.user("podman ps -q --no-trunc --filter status=running | sort") == ids
		})
		took := time.Since(began)
		worst = max(worst, took)
		if took > 30*time.Second {
			t.Errorf("reboot %d: up after %s", i, took)
		}
		life := started()
		time.Sleep(tokenLife - time.Since(offline)) // the last token was minted before
		back := time.Now()
		d.NetworkUp(t)
		d.fleet.awaitFor(time.Minute, "back with a new token", func(s wire.DeviceState) bool {
			return s.At.After(back) && phase("web", 1, wire.PhaseRunning)(s)
		})
		worstBack = max(worstBack, time.Since(back))
		if now := started(); now != life {
			t.Errorf("reboot %d: the network coming back restarted something:\n%s\n%s", i, life, now)
		}
	}
	t.Logf("%d reboots, tokens of %s expired each time: containers up at most %s after the boot, reporting at most %s after the network was back",
		*reboots, tokenLife, worst.Round(time.Millisecond), worstBack.Round(time.Millisecond))
}

// Nothing of a device that nothing happens to is restarted, in any number of
// ticks, token renewals and reports.
func TestNoFalseRestart(t *testing.T) {
	if *calm == 0 {
		t.Skip("by hand: -soak.calm=1h")
	}
	d := newDeviceOf(t, "trixie", &issuertest.Options{Host: testhost.HarnessIP, MachineToken: time.Minute})
	image := registry.PushApp(t, d.registry, "hello", "v1")
	d.makeData()
	d.fleet.deploy("web", 1, everyField(image)...)
	d.fleet.await("running", phase("web", 1, wire.PhaseRunning))
	life := func() string {
		return d.user("podman inspect -f '{{.Name}} {{.Id}} {{.State.StartedAt}} {{.RestartCount}}' $(podman ps -aq) | sort")
	}
	before, began := life(), time.Now()
	tick := time.NewTicker(min(*calm, time.Minute))
	defer tick.Stop()
	for time.Since(began) < *calm {
		<-tick.C
		if now := life(); now != before {
			t.Fatalf("after %s something is another:\n%s\nbefore:\n%s", time.Since(began).Round(time.Second), now, before)
		}
	}
	if log := d.Sh(t, "journalctl -u fleet-agent --no-pager -o cat | grep -E 'differs_in|replaced' || true"); log != "" {
		t.Errorf("taken for drift: %s", log)
	}
	t.Logf("%d containers, the same and never restarted in %s, with %s connections", len(lines(before)), time.Since(began).Round(time.Second),
		d.Sh(t, "journalctl -u fleet-agent --no-pager -o cat | grep -c 'msg=connected'"))
}
