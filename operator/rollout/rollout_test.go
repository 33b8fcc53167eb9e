package rollout

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

var epoch = time.Unix(1_700_000_000, 0)

// fleetOf are devices that run revision 1 well.
func fleetOf(n int) []Device {
	out := make([]Device, n)
	for i := range out {
		out[i] = Device{
			ID: fmt.Sprintf("d%05d", i), Connected: true, Since: epoch.Add(-time.Hour), Told: 1, ToldAt: epoch.Add(-time.Hour),
			Report: Report{Revision: 1, Health: Running, Since: epoch.Add(-time.Hour)},
		}
	}
	return out
}

func policy() Policy {
	p := NewPolicy(&v1alpha1.Rollout{Batch: ptr.To(intstr.FromInt32(2)), MaxUnavailable: ptr.To(intstr.FromInt32(2))})
	p.MinReady = 10 * time.Second
	return p
}

// look asks until there is nothing to be stored.
func look(e *Engine, in *Input) Decision {
	for {
		out := e.Step(in)
		in.State = out.State
		if !out.Store {
			for i := range in.Devices {
				if r, ok := out.Tell[in.Devices[i].ID]; ok {
					in.Devices[i].Told, in.Devices[i].ToldAt = r, in.Now
				}
			}
			return out
		}
	}
}

func running(in *Input, ids ...string) {
	for i := range in.Devices {
		for _, id := range ids {
			if d := &in.Devices[i]; d.ID == id {
				d.Report = Report{Revision: d.Told, Health: Running, Since: in.Now}
			}
		}
	}
}

func TestDefaults(t *testing.T) {
	p := NewPolicy(&v1alpha1.Rollout{})
	if p.Batch.StrVal != "10%" || p.MaxUnavailable.StrVal != "10%" || p.MinReady != 30*time.Second || p.Deadline != 10*time.Minute || p.MaxFailures != 0 {
		t.Errorf("%+v", p)
	}
	for n, want := range map[int]int{0: 1, 1: 1, 9: 1, 10: 1, 19: 1, 20: 2, 10_000: 1000} {
		if got := amount(p.Batch, n); got != want {
			t.Errorf("10%% of %d: %d, want %d", n, got, want)
		}
	}
}

// A batch is waited for, for as long as its devices have to be ready.
func TestBatchIsABarrier(t *testing.T) {
	e := &Engine{}
	in := &Input{Now: epoch, Policy: policy(), State: State{Phase: Complete, Target: 1, Stable: 1}, Target: 2, Devices: fleetOf(5)}
	if out := look(e, in); len(out.Tell) != 2 || out.Tell["d00000"] != 2 || out.Tell["d00001"] != 2 {
		t.Fatalf("first batch %v", out.Tell)
	}
	running(in, "d00000")
	in.Now = epoch.Add(time.Minute)
	if out := look(e, in); len(out.Tell) != 0 {
		t.Fatalf("with one ready of two %v", out.Tell)
	}
	if out := look(&Engine{}, in); len(out.Tell) != 0 {
		t.Fatalf("and by an operator that has just started %v", out.Tell)
	}
	in.Now = epoch
	running(in, "d00000", "d00001")
	in.Now = epoch.Add(9 * time.Second)
	out := look(e, in)
	if len(out.Tell) != 0 || !out.Again.Equal(epoch.Add(10*time.Second)) || out.Picture.Total.Ready != 0 {
		t.Fatalf("before they are ready: %v, again %v, %+v", out.Tell, out.Again, out.Picture)
	}
	in.Now = out.Again
	if out := look(e, in); len(out.Tell) != 2 || out.State.Batch != 2 {
		t.Fatalf("second batch %v, %+v", out.Tell, out.State)
	}
}

// What is down anyway is given the revision first, and counts.
func TestUnwellComeFirstAndCount(t *testing.T) {
	e := &Engine{}
	in := &Input{Now: epoch, Policy: policy(), State: State{Phase: Complete, Target: 1, Stable: 1}, Target: 2, Devices: fleetOf(6)}
	for _, i := range []int{3, 4, 5} {
		in.Devices[i].Report.Health = Failing
	}
	if out := look(e, in); len(out.Tell) != 2 || out.Tell["d00003"] != 2 || out.Tell["d00004"] != 2 {
		t.Fatalf("told %v", out.Tell)
	}
	running(in, "d00003", "d00004")
	in.Now = in.Now.Add(time.Minute)
	out := look(e, in)
	if len(out.Tell) != 2 || out.Tell["d00005"] != 2 {
		t.Fatalf("then %v", out.Tell)
	}
}

// A server that restarts cuts everybody off: no reason to call it complete.
func TestAMomentOfSilence(t *testing.T) {
	e := &Engine{}
	in := &Input{Now: epoch, Policy: policy(), State: State{Phase: Complete, Target: 1, Stable: 1}, Target: 2, Devices: fleetOf(5)}
	look(e, in)
	running(in, "d00000", "d00001")
	in.Now = in.Now.Add(time.Minute)
	for i := range in.Devices {
		in.Devices[i].Connected, in.Devices[i].Since = false, in.Now
	}
	out := look(e, in)
	if out.State.Phase != Progressing || !out.Again.Equal(in.Now.Add(time.Minute)) {
		t.Fatalf("%+v, again %v", out.State, out.Again)
	}
	in.Now = out.Again
	if out := look(e, in); out.State.Phase != Complete || out.Picture.Total.Offline != 3 || out.Picture.Idle {
		t.Fatalf("after a minute %+v, %+v", out.State, out.Picture)
	}
}

// Nothing is proven by a fleet that is away.
func TestNobodyIsThere(t *testing.T) {
	in := &Input{Now: epoch, Policy: policy(), State: State{Phase: Complete, Target: 1, Stable: 1}, Target: 2, Devices: fleetOf(3)}
	for i := range in.Devices {
		in.Devices[i].Connected = false
	}
	if out := look(&Engine{}, in); out.State.Phase != Progressing || out.State.Stable != 1 || len(out.Tell) != 0 {
		t.Errorf("%+v, told %v", out.State, out.Tell)
	}
}

// Those that return after it was complete go on only while those before them
// are well.
func TestReturnersAreHeldBack(t *testing.T) {
	e := &Engine{}
	in := &Input{Now: epoch, Policy: policy(), State: State{Phase: Complete, Target: 2, Stable: 2}, Target: 2, Devices: fleetOf(6)}
	out := look(e, in)
	if len(out.Tell) != 2 {
		t.Fatalf("told %v", out.Tell)
	}
	for i := range in.Devices[:2] {
		in.Devices[i].Report = Report{Revision: 2, Health: Failing, Since: in.Now, Message: "no space left"}
	}
	look(e, in)
	in.Now = in.Now.Add(time.Minute)
	out = look(e, in)
	if len(out.Tell) != 0 || out.State.Phase != Complete || !strings.Contains(out.Picture.Message, "4 devices keep what they run") {
		t.Errorf("told %v, %s: %s", out.Tell, out.State.Phase, out.Picture.Message)
	}
	if len(out.Picture.Waiting) != 2 || out.Picture.Waiting[0].Message != "no space left" {
		t.Errorf("waiting for %+v", out.Picture.Waiting)
	}
}

// The failure is found again in what people read, over a restart.
func TestFailureSurvivesItsMessage(t *testing.T) {
	for _, phase := range []Phase{Failed, RollingBack, RolledBack} {
		s := State{Phase: phase, Target: 2, Stable: 1, Failure: "d1 failed: x: y"}
		in := &Input{Now: epoch, Policy: policy(), State: s, Target: 2}
		if got := FailureIn((&Engine{}).Step(in).Picture.Message); got != s.Failure {
			t.Errorf("%s: %q", phase, got)
		}
	}
}

func BenchmarkStep(b *testing.B) {
	e := &Engine{}
	in := &Input{Now: epoch, Policy: policy(), State: State{Phase: Complete, Target: 1, Stable: 1}, Target: 2, Devices: fleetOf(10_000)}
	look(e, in)
	for b.Loop() {
		e.Step(in)
	}
}
