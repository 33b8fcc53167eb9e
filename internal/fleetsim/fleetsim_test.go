package fleetsim

import (
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

func TestValidate(t *testing.T) {
	good := Config{Devices: 10, Deployments: 3, Rate: 5, Duration: time.Second}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*Config){
		"no device":                     func(c *Config) { c.Devices = 0 },
		"too many devices":              func(c *Config) { c.Devices = 100_001 },
		"no deployment":                 func(c *Config) { c.Deployments = 0 },
		"more deployments than devices": func(c *Config) { c.Deployments = 11 },
		"no rate":                       func(c *Config) { c.Rate = 0 },
		"no time":                       func(c *Config) { c.Duration = 0 },
	} {
		bad := good
		if spoil(&bad); bad.Validate() == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// Devices cannot share a connection, so the limit of files is one of devices.
func TestFileLimit(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := checkFileLimit(int(limit.Cur) - spareFiles); err != nil { //nolint:gosec // a limit of files
		t.Error(err)
	}
	if err := checkFileLimit(int(limit.Cur) - spareFiles + 1); hint.Of(err) == "" { //nolint:gosec // a limit of files
		t.Errorf("one more than there may be: %v", err)
	}
}

// A status is right when it is the sum of what was reported of its generation,
// and wrong when one device is off.
func TestCompare(t *testing.T) {
	f := newFleet(Config{Devices: 6, Deployments: 2})
	for i, phase := range []wire.Phase{wire.PhaseRunning, wire.PhaseRunning, wire.PhaseFailed, wire.PhasePending, wire.PhaseRunning} {
		d := f.devices[i]
		d.work[d.group.name] = &job{generation: 2, phase: phase}
	}
	f.devices[4].work[f.devices[4].group.name].generation = 1 // of the one before: pending
	objects := make([]v1alpha1.Deployment, 2)
	for i, sum := range []v1alpha1.Aggregate{{MatchedDeviceCount: 3, Succeeded: 1, Failed: 1, Pending: 1}, {MatchedDeviceCount: 3, Succeeded: 1, Pending: 2}} {
		objects[i].Name, objects[i].Generation = f.groups[i].name, 2
		objects[i].Status = v1alpha1.DeploymentStatus{ObservedGeneration: 2, Aggregate: sum}
	}
	if right, wrong := f.compare(objects); right != 2 {
		t.Errorf("%d right; wrong: %q", right, wrong)
	}
	f.devices[1].work[f.groups[1].name].phase = wire.PhaseFailed
	objects[0].Status.ObservedGeneration = 1
	if right, wrong := f.compare(objects); right != 0 || len(wrong) != 2 {
		t.Errorf("%d right; wrong: %q", right, wrong)
	}
	if _, wrong := f.compare(objects[:1]); len(wrong) != 2 {
		t.Errorf("a deployment that is gone is not missed: %q", wrong)
	}
}

func TestHistogram(t *testing.T) {
	h := newHistogram()
	if got := h.quantile(0.99); got != 0 {
		t.Errorf("of nothing: %s", got)
	}
	for _, i := range rand.Perm(1000) {
		h.add(time.Duration(i+1) * time.Millisecond)
	}
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Millisecond, 0.99: 990 * time.Millisecond, 1: time.Second} {
		if got := h.quantile(q); got < want || got > want*103/100 {
			t.Errorf("quantile %g is %s, want %s or up to 3 %% more", q, got, want)
		}
	}
}
