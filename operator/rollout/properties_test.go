package rollout

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"
)

func drawAmount(t *rapid.T, name string) intstr.IntOrString {
	if rapid.Bool().Draw(t, name+" as percentage") {
		return intstr.FromString([]string{"1%", "10%", "34%", "50%", "100%"}[rapid.IntRange(0, 4).Draw(t, name)])
	}
	return intstr.FromInt32(int32(rapid.IntRange(1, 6).Draw(t, name)))
}

func drawPolicy(t *rapid.T) Policy {
	return Policy{
		MaxUnavailable: drawAmount(t, "maxUnavailable"), Batch: drawAmount(t, "batch"),
		MinReady:     time.Duration(rapid.IntRange(0, 5).Draw(t, "minReady")) * time.Second,
		Deadline:     time.Duration(rapid.IntRange(15, 60).Draw(t, "deadline")) * time.Second,
		MaxFailures:  rapid.SampledFrom([]int{0, 0, 1, 3}).Draw(t, "maxFailures"),
		AutoRollback: rapid.Bool().Draw(t, "autoRollback"),
	}
}

func drawBehaviour(t *rapid.T) behaviour {
	switch rapid.IntRange(0, 5).Draw(t, "behaviour") {
	case 0:
		return behaviour{}
	case 1:
		return behaviour{flaps: true}
	case 2:
		return behaviour{partial: rapid.IntRange(1, 99).Draw(t, "fails on")}
	default:
		return behaviour{good: true}
	}
}

// TestInvariants plays random fleets with random failures and timings, and an
// operator that dies at random, and checks every decision and the end. A
// failure prints its seed: go test -run TestInvariants -rapid.seed=N.
func TestInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSim(t)
		s.goods = map[Revision]bool{}
		s.policy, s.target, s.newest = drawPolicy(t), 1, 1
		s.does[1] = behaviour{good: true}
		groups := rapid.IntRange(1, 3).Draw(t, "groups")
		for range rapid.IntRange(1, 24).Draw(t, "devices") {
			s.join(groups)
		}
		s.note("policy %+v, %d devices", s.policy, len(s.devices))
		for range rapid.IntRange(1, 40).Draw(t, "events") {
			s.event(groups)
			for range rapid.IntRange(0, 20).Draw(t, "seconds") {
				s.tick()
				s.operate(rapid.IntRange(0, 19).Draw(t, "dies") == 0)
			}
		}
		s.converge()
	})
}

// event is something that happens to a fleet.
func (s *sim) event(groups int) {
	devices := s.sorted()
	one := func() *played {
		if len(devices) == 0 {
			s.join(groups)
			devices = s.sorted()
		}
		return devices[rapid.IntRange(0, len(devices)-1).Draw(s.T, "which")]
	}
	switch rapid.IntRange(0, 11).Draw(s.T, "event") {
	case 0, 1:
		s.newest++
		s.target = s.newest
		s.does[s.target] = drawBehaviour(s.T)
		s.note("new target %d: %+v", s.target, s.does[s.target])
	case 2:
		s.target = Revision(rapid.IntRange(1, int(s.newest)).Draw(s.T, "undo to"))
		s.note("undo to %d", s.target)
	case 3:
		s.policy.Paused = !s.policy.Paused
		s.note("paused %v", s.policy.Paused)
	case 4, 5:
		if d := one(); d.connected {
			d.cut(s, s.now.Add(time.Duration(rapid.IntRange(1, 90).Draw(s.T, "away"))*time.Second))
		}
	case 6:
		s.join(groups)
		s.note("d%03d joins", s.joined)
	case 7:
		d := one()
		delete(s.devices, d.id)
		s.note("%s leaves", d.id)
	case 8:
		s.restart()
	case 9:
		s.policy.Attempt++
		s.note("attempt %d", s.policy.Attempt)
	case 10: // its state is lost, as after a new disk
		d := one()
		d.has, d.hasAt = 0, s.now
		s.note("%s starts anew", d.id)
	case 11:
		paused, attempt := s.policy.Paused, s.policy.Attempt
		s.policy = drawPolicy(s.T)
		s.policy.Paused, s.policy.Attempt = paused, attempt
		s.note("policy %+v", s.policy)
	}
}

// converge lets everything calm down and checks where it ends.
func (s *sim) converge() {
	s.policy.Paused = false
	s.note("calm")
	quiet := 0
	for i := 0; quiet < 200; i++ {
		if i > 20_000 {
			s.fail("no end: %+v, %s", s.state, s.engine.Step(s.input()).Picture.Message)
		}
		s.tick()
		told := len(s.events)
		s.operate(false)
		if quiet++; len(s.events) != told {
			quiet = 0
		}
	}
	good := s.does[s.target].good
	switch s.state.Phase {
	case Complete:
		s.all(s.target)
	case RolledBack:
		if !s.policy.AutoRollback && good {
			s.fail("rolled back without reason")
		}
		s.all(s.state.Stable)
	case Failed:
		if good && s.state.Stable != s.state.Target && !strings.Contains(s.state.Failure, "silent") && !s.disturbed() {
			s.fail("a good revision failed: %s", s.state.Failure)
		}
	default:
		if len(s.devices) > 0 {
			s.fail("it ended %s: %s", s.state.Phase, s.engine.Step(s.input()).Picture.Message)
		}
	}
}

// disturbed says whether devices lost what they had while they were watched.
func (s *sim) disturbed() bool {
	for _, e := range s.events {
		if strings.Contains(e, "starts anew") || strings.Contains(e, "cut off") {
			return true
		}
	}
	return false
}

// all checks that every device runs r that the rollout did not give up on.
func (s *sim) all(r Revision) {
	failures := 0
	for _, d := range s.sorted() {
		switch {
		case d.told == r && (d.health == Running || d.seen.Health == Running):
		case d.told == r:
			failures++
		case d.told != r && s.state.Phase == Complete:
			failures++ // held back after others that returned failed
		default:
			s.fail("%s was told %d, not %d, at the end", d.id, d.told, r)
		}
	}
	if failures > 0 && s.does[r].good {
		s.fail("%d devices do not run %d at the end", failures, r)
	}
}

// steady is a fleet that runs revision 1, with some devices away for good.
func steady(t *rapid.T) (s *sim, away map[string]bool) {
	s = newSim(t)
	s.goods = map[Revision]bool{}
	s.policy, s.target, s.newest = drawPolicy(t), 1, 1
	s.does[1] = behaviour{good: true}
	groups := rapid.IntRange(1, 3).Draw(t, "groups")
	for range rapid.IntRange(2, 30).Draw(t, "devices") {
		s.join(groups)
	}
	s.run(Complete)
	away = map[string]bool{}
	for _, d := range s.sorted()[1:] {
		if rapid.IntRange(0, 3).Draw(t, "away") == 0 {
			away[d.id] = true
			d.cut(s, time.Time{})
		}
	}
	return s, away
}

// run lets the fleet go on until the rollout is in a phase; the operator dies
// now and then.
func (s *sim) run(until Phase) {
	for range 20_000 {
		s.tick()
		if s.operate(rapid.IntRange(0, 30).Draw(s.T, "dies") == 0); s.state.Phase == until && s.state.Target == s.target {
			return
		}
	}
	s.fail("not %s but %+v: %s", until, s.state, s.engine.Step(s.input()).Picture.Message)
}

// TestOfflineNeverBlocks: a good rollout is completed by the devices that are
// there, however many are not, and takes those in that return.
func TestOfflineNeverBlocks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, away := steady(t)
		s.target, s.newest = 2, 2
		s.does[2] = behaviour{good: true}
		s.run(Complete)
		for _, d := range s.sorted() {
			if want := map[bool]Revision{false: 2, true: 1}[away[d.id]]; d.told != want {
				s.fail("%s was told %d, not %d", d.id, d.told, want)
			}
		}
		for id := range away {
			d := s.devices[id]
			d.connected, d.since = true, s.now
		}
		s.converge()
		s.all(2)
	})
}

// TestCrashLoopStopsAtFirstBatch: an image that runs nowhere reaches the first
// batch of each group and as many more as may fail, and those go back.
func TestCrashLoopStopsAtFirstBatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, _ := steady(t)
		s.policy.MinReady = 5 * time.Second // longer than it runs between two crashes
		s.target, s.newest = 2, 2
		s.does[2] = behaviour{flaps: rapid.Bool().Draw(t, "flaps")}
		s.widest = map[string]int{}
		s.run(map[bool]Phase{true: RolledBack, false: Failed}[s.policy.AutoRollback])
		most := s.policy.MaxFailures
		for _, size := range s.widest {
			most += size
		}
		if n := len(s.toldOf[2]); n > most {
			s.fail("%d devices were told a revision that runs nowhere; %d may be", n, most)
		}
		if s.policy.AutoRollback {
			s.converge()
			s.all(1)
		}
	})
}

// TestCutOffStops: a revision that cuts devices off does not take the fleet
// down batch by batch.
func TestCutOffStops(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, _ := steady(t)
		s.policy.Batch, s.policy.MaxUnavailable = intstr.FromInt32(4), intstr.FromInt32(4)
		connected := 0
		for _, d := range s.sorted() {
			if d.connected {
				connected++
			}
		}
		if connected < 16 {
			t.Skip("too small a fleet to tell")
		}
		s.target, s.newest = 2, 2
		s.does[2] = behaviour{cuts: true}
		s.run(map[bool]Phase{true: RolledBack, false: Failed}[s.policy.AutoRollback])
		if n, most := len(s.toldOf[2]), 4*len(s.widest)+max(s.policy.MaxFailures, 2); n > most {
			s.fail("%d devices were cut off; %d may be", n, most)
		}
	})
}
