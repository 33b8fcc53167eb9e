package rollout

import (
	"fmt"
	"slices"
	"time"
)

// view is the fleet as the engine judges it at one moment.
type view struct {
	groups   []*group // by name
	verdicts []verdict
	failures []int // devices that count against Policy.MaxFailures, as indices of Input.Devices
	lost     []int
	ready    int
	again    time.Time
}

// group are the devices with one value of spec.rollout.groupBy.
type group struct {
	name       string
	counts     [6]int // by standing
	devices    int
	told       int // the goal
	connected  int
	offline    int // not connected, and yet to run the goal
	inProgress int
	candidates []*Device // connected, and yet to be told
	fresh      int       // not connected, and until a moment ago they were
	held       bool      // its latest devices fail: no more get the goal
}

func (e *Engine) view(s *State, in *Input) *view {
	v := &view{verdicts: make([]verdict, len(in.Devices))}
	goal, base := s.goal(), s.base()
	suspect := goal != s.Stable
	groups := map[string]*group{}
	for i := range in.Devices {
		d := &in.Devices[i]
		g := groups[d.Group]
		if g == nil {
			g = &group{name: d.Group}
			groups[d.Group] = g
			v.groups = append(v.groups, g)
		}
		verdict := verdict{standing: untouched}
		if goal != 0 && d.Told == goal {
			verdict = judge(d, e.memoryOf(d), &in.Policy, in.Now, suspect)
		}
		v.verdicts[i] = verdict
		if verdict.standing == untouched && !d.Connected {
			// A server that restarts cuts everybody off for a moment: that is
			// no reason to call a rollout complete.
			if back := d.Since.Add(in.Policy.patience()); in.Now.Before(back) {
				verdict.again = back
				g.fresh++
			}
		}
		v.count(g, d, i, verdict, base)
	}
	slices.SortFunc(v.groups, func(a, b *group) int { return cmpString(a.name, b.name) })
	for _, g := range v.groups {
		e.batchOf(g, s)
	}
	v.countFailures(e, s, in, groups)
	return v
}

func (v *view) count(g *group, d *Device, i int, verdict verdict, base Revision) {
	g.devices++
	g.counts[verdict.standing]++
	if d.Connected {
		g.connected++
	}
	if !verdict.again.IsZero() && (v.again.IsZero() || verdict.again.Before(v.again)) {
		v.again = verdict.again
	}
	switch verdict.standing {
	case ready:
		v.ready++
		g.told++
	case inProgress:
		g.told++
		g.inProgress++
	case failed:
		g.told++
	case lost:
		g.told++
		v.lost = append(v.lost, i)
	case waiting:
		g.told++
	case untouched:
		switch {
		case !d.Connected:
		case d.Told == 0 && base != 0: // told in passing
		default:
			g.candidates = append(g.candidates, d)
		}
	}
	if !d.Connected && verdict.standing != ready && verdict.standing != failed {
		g.offline++
	}
}

// countFailures finds the devices that count as failures of the rollout. Once
// it was complete, only those count that the rollout changed since: what
// befalls a device later is no failure of the rollout.
func (v *view) countFailures(e *Engine, s *State, in *Input, groups map[string]*group) {
	for i := range in.Devices {
		if v.verdicts[i].standing != failed {
			continue
		}
		d := &in.Devices[i]
		if s.Phase == Complete && e.devices[d.ID].from == 0 {
			continue
		}
		v.failures = append(v.failures, i)
	}
	if s.Phase == Complete && len(v.failures) > in.Policy.MaxFailures {
		for _, i := range v.failures {
			groups[in.Devices[i].Group].held = true
		}
	}
}

// memoryOf is what is remembered of a device that was told the goal.
func (e *Engine) memoryOf(d *Device) *memory {
	m := e.devices[d.ID]
	if m == nil || m.goal != d.Told {
		m = &memory{goal: d.Told}
		e.devices[d.ID] = m
	}
	return m
}

// batchOf makes sure that a group's batch is known. Where devices were told
// before the engine was there, it waits for them to be ready.
func (e *Engine) batchOf(g *group, s *State) {
	if e.batches[g.name] != nil {
		return
	}
	b := &batch{number: 1}
	if g.told > 0 {
		b.number, b.begun = max(s.Batch, 1), g.devices
	}
	e.batches[g.name] = b
}

// advance moves the rollout to its next phase when it is time.
func (v *view) advance(s *State, in *Input) {
	switch s.Phase {
	case Progressing:
		if reason := v.tooMany(s, in); reason != "" {
			s.fail(reason, in)
			return
		}
		if v.settled() && (v.ready > 0 || len(in.Devices) == 0) {
			s.Phase, s.Stable, s.Finished = Complete, s.Target, in.Now
		}
	case RollingBack:
		if v.settled() {
			s.Phase, s.Finished = RolledBack, in.Now
		}
	}
}

// settled says whether nothing is left to be done for the devices that are
// connected, or were a moment ago.
func (v *view) settled() bool {
	for _, g := range v.groups {
		if len(g.candidates) > 0 || g.inProgress > 0 || g.fresh > 0 {
			return false
		}
	}
	return true
}

// tooMany says why the rollout has to stop; "" when it has not.
func (v *view) tooMany(s *State, in *Input) string {
	if n := len(v.failures); n > in.Policy.MaxFailures {
		d := &in.Devices[v.failures[0]]
		return fmt.Sprintf("%s failed, of which %d are allowed; %s: %s", countOf(n), in.Policy.MaxFailures, d.ID, v.why(d, v.failures[0]))
	}
	if v.settled() && v.ready == 0 && len(v.failures) > 0 {
		d := &in.Devices[v.failures[0]]
		return fmt.Sprintf("no device runs it; %s: %s", d.ID, v.why(d, v.failures[0]))
	}
	if s.Target == s.Stable {
		return "" // it was good before; the devices are away for another reason
	}
	widest := 0
	for _, g := range v.groups {
		widest = max(widest, amount(in.Policy.Batch, g.connected+len(v.lost)))
	}
	if n := len(v.lost); n > max(in.Policy.MaxFailures, widest/2, 1) {
		return fmt.Sprintf("%s went silent after they were given it and did not return, such as %s", countOf(n), in.Devices[v.lost[0]].ID)
	}
	return ""
}

func (s *State) fail(reason string, in *Input) {
	s.Failure = reason
	if in.Policy.AutoRollback && s.Stable != 0 && s.Stable != s.Target {
		s.Phase = RollingBack
		return
	}
	s.Phase, s.Finished = Failed, in.Now
}
