package rollup

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/wire"
)

var epoch = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func state(phase wire.Phase, uid string, generation int64, message string) *wire.DeviceState {
	return &wire.DeviceState{At: epoch, Deployments: []wire.DeploymentState{
		{Name: "hello", UID: uid, Generation: generation, Phase: phase, Message: message, Since: epoch},
	}}
}

func TestOutcome(t *testing.T) {
	for _, tc := range []struct {
		name   string
		report *wire.DeviceState
		want   Outcome
	}{
		{"nothing heard", nil, Pending},
		{"running", state(wire.PhaseRunning, "u", 2, ""), Succeeded},
		{"ran to its end", state(wire.PhaseStopped, "u", 2, ""), Succeeded},
		{"failed", state(wire.PhaseFailed, "u", 2, "no such image"), Failed},
		{"being removed", state(wire.PhaseRemoving, "u", 2, ""), Pending},
		{"a phase of a newer agent", state("Dreaming", "u", 2, ""), Pending},
		{"an older generation runs", state(wire.PhaseRunning, "u", 1, ""), Pending},
		{"an older generation failed", state(wire.PhaseFailed, "u", 1, "old"), Pending},
		{"another object of the name", state(wire.PhaseRunning, "v", 2, ""), Pending},
		{"not in the report", &wire.DeviceState{}, Pending},
		{"refuses its manifest", &wire.DeviceState{Error: "signature does not match"}, Failed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tr := NewTracker()
			tr.SetDeployment("hello", "u", 2)
			tr.Join("hello", "pi-1")
			if tc.report != nil {
				tr.Report("pi-1", tc.report, []string{"hello"})
			}
			want := Summary{Matched: 1}
			switch tc.want {
			case Succeeded:
				want.Succeeded = 1
			case Failed:
				want.Failed = 1
			case Pending:
				want.Pending = 1
			}
			got := tr.Summary("hello")
			if got.Matched != 1 || got.Succeeded != want.Succeeded || got.Failed != want.Failed || got.Pending != want.Pending {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestLastErrorIsTheMostRecentOfThoseFailedNow(t *testing.T) {
	tr := NewTracker()
	tr.SetDeployment("hello", "u", 1)
	for i := range 3 {
		device := fmt.Sprint("pi-", i)
		tr.Join("hello", device)
		s := state(wire.PhaseFailed, "u", 1, "reason "+device)
		s.Deployments[0].Since = epoch.Add(time.Duration(i) * time.Minute)
		tr.Report(device, s, []string{"hello"})
	}
	if e := tr.Summary("hello").LastError; e == nil || e.Device != "pi-2" || e.Message != "reason pi-2" || !e.At.Equal(epoch.Add(2*time.Minute)) {
		t.Fatalf("last error %+v", e)
	}
	tr.Report("pi-2", state(wire.PhaseRunning, "u", 1, ""), []string{"hello"})
	if e := tr.Summary("hello").LastError; e == nil || e.Device != "pi-1" {
		t.Fatalf("after pi-2 recovered: %+v", e)
	}
	tr.Leave("hello", "pi-1")
	tr.SetDeployment("hello", "u", 2)
	if s := tr.Summary("hello"); s.LastError != nil || s.Pending != 2 || !slices.Equal(s.Waiting, []string{"pi-0", "pi-2"}) {
		t.Fatalf("a new generation starts from pending: %+v", s)
	}
}

func TestReportNamesWhatItChanged(t *testing.T) {
	tr := NewTracker()
	tr.SetDeployment("hello", "u", 1)
	tr.Join("hello", "pi-1")
	member := []string{"hello", "unknown"}
	for i, step := range []struct {
		report *wire.DeviceState
		want   []string
	}{
		{state(wire.PhasePending, "u", 1, "pulling"), nil},
		{state(wire.PhaseFailed, "u", 1, "no such image"), []string{"hello"}},
		{state(wire.PhaseFailed, "u", 1, "no such image"), nil},
		{state(wire.PhaseFailed, "u", 1, "port is taken"), []string{"hello"}},
		{state(wire.PhaseRunning, "u", 1, ""), []string{"hello"}},
		{state(wire.PhaseRunning, "u", 1, ""), nil},
	} {
		if got := tr.Report("pi-1", step.report, member); !slices.Equal(got, step.want) {
			t.Errorf("step %d: changed %v, want %v", i, got, step.want)
		}
	}
}

// TestCountsAlwaysAddUp compares the running counts with counting anew.
func TestCountsAlwaysAddUp(t *testing.T) {
	phases := []wire.Phase{wire.PhasePending, wire.PhaseRunning, wire.PhaseFailed, wire.PhaseStopped}
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		tr := NewTracker()
		tr.SetDeployment("hello", "u", 1)
		generation := int64(1)
		member := map[string]bool{}
		last := map[string]*wire.DeviceState{}
		for range 400 {
			device := fmt.Sprint("pi-", rnd.IntN(9))
			switch rnd.IntN(6) {
			case 0:
				tr.Leave("hello", device)
				delete(member, device)
			case 1, 2:
				tr.Join("hello", device)
				member[device] = true
			case 3:
				if rnd.IntN(8) == 0 {
					generation++
					tr.SetDeployment("hello", "u", generation)
				}
			default:
				last[device] = state(phases[rnd.IntN(len(phases))], "u", generation-int64(rnd.IntN(2)), "m")
				var of []string
				if member[device] {
					of = []string{"hello"}
				}
				tr.Report(device, last[device], of)
			}
			want := Summary{Matched: int32(len(member))}
			for d := range member {
				s := last[d]
				switch {
				case s == nil || s.Deployments[0].Generation != generation || s.Deployments[0].Phase == wire.PhasePending:
					want.Pending++
				case s.Deployments[0].Phase == wire.PhaseFailed:
					want.Failed++
				default:
					want.Succeeded++
				}
			}
			got := tr.Summary("hello")
			if got.Matched != want.Matched || got.Succeeded != want.Succeeded || got.Failed != want.Failed || got.Pending != want.Pending {
				t.Fatalf("seed %d: got %+v, want %+v", seed, got, want)
			}
		}
	}
}

// BenchmarkReport is one of 10,000 members reporting an outcome.
func BenchmarkReport(b *testing.B) {
	tr := NewTracker()
	tr.SetDeployment("hello", "u", 1)
	for i := range 10000 {
		tr.Join("hello", fmt.Sprint("pi-", i))
	}
	states := []*wire.DeviceState{state(wire.PhaseRunning, "u", 1, ""), state(wire.PhaseFailed, "u", 1, "x")}
	for i := 0; b.Loop(); i++ {
		tr.Report("pi-7", states[i%2], []string{"hello"})
	}
}
