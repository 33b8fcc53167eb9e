package rollout

import (
	"cmp"
	"slices"
	"time"
)

// Engine is the rollout of one Deployment. The zero value is one that has seen
// nothing: an operator that starts, or takes over. It is not safe for
// concurrent use.
type Engine struct {
	devices map[string]*memory
	batches map[string]*batch // by group
	goal    Revision          // that devices and batches are about
}

// batch is where a group is.
type batch struct {
	number int
	begun  int // how many devices of it were told
}

// Input is a moment of a rollout.
type Input struct {
	Now     time.Time
	Policy  Policy
	State   State    // as it is stored
	Target  Revision // of the present spec
	Devices []Device // that match, by id
}

// Decision is what is to be done.
type Decision struct {
	// State is to be stored. When Store is true that comes first, nothing is
	// to be told, and the engine is to be asked again.
	State State
	Store bool
	// Tell are the devices that get another revision now.
	Tell map[string]Revision
	// Again is when to ask again if nothing happens; zero: never.
	Again time.Time

	Picture Picture
}

// Step decides.
func (e *Engine) Step(in *Input) Decision {
	state := in.State
	begin(&state, in)
	e.aim(state.goal())
	v := e.view(&state, in)
	if !in.Policy.Paused {
		v.advance(&state, in)
	}
	out := Decision{State: state, Tell: map[string]Revision{}, Again: v.again}
	if out.Store = state != in.State; out.Store {
		// The picture of the new state comes with the next step.
		out.Picture = v.picture(&state, in)
		return out
	}
	e.tellNew(&state, in, out.Tell)
	if !in.Policy.Paused && state.goal() != 0 {
		for _, g := range v.groups {
			e.tellGroup(g, &state, in, out.Tell)
		}
	}
	for _, g := range v.groups {
		out.State.Batch = max(out.State.Batch, e.batches[g.name].number)
	}
	out.Picture = v.picture(&out.State, in)
	return out
}

// begin starts the rollout of another target, or another attempt at one.
func begin(s *State, in *Input) {
	if s.Phase != "" && s.Target == in.Target && s.Attempt == in.Policy.Attempt {
		return
	}
	if s.Phase == "" {
		s.Stable = commonest(in)
	}
	s.Phase, s.Target, s.Attempt = Progressing, in.Target, in.Policy.Attempt
	s.Started, s.Finished, s.Failure, s.Batch = in.Now, time.Time{}, "", 0
}

// commonest is the revision that most devices were told: without a record, the
// last good one.
func commonest(in *Input) Revision {
	counts := map[Revision]int{}
	for i := range in.Devices {
		if told := in.Devices[i].Told; told != 0 {
			counts[told]++
		}
	}
	var out Revision
	for r, n := range counts {
		if n > counts[out] || n == counts[out] && r > out {
			out = r
		}
	}
	return out
}

// aim forgets what was about another goal.
func (e *Engine) aim(goal Revision) {
	if e.devices == nil || e.goal != goal {
		e.devices, e.batches, e.goal = map[string]*memory{}, map[string]*batch{}, goal
	}
}

// tellNew gives devices that have nothing what is right for them without a
// turn: it disturbs nothing.
func (e *Engine) tellNew(s *State, in *Input, tell map[string]Revision) {
	base := s.base()
	if base == 0 {
		return
	}
	for i := range in.Devices {
		if d := &in.Devices[i]; d.Told == 0 {
			tell[d.ID] = base
		}
	}
}

// tellGroup gives the goal to as many of a group as may have it now.
func (e *Engine) tellGroup(g *group, s *State, in *Input, tell map[string]Revision) {
	goal, b := s.goal(), e.batches[g.name]
	size := amount(in.Policy.Batch, g.connected)
	most := amount(in.Policy.MaxUnavailable, g.connected)
	places := min(size, most) - g.inProgress
	if !s.proven() {
		if b.begun >= size && g.inProgress == 0 && len(g.candidates) > 0 && !g.held {
			*b = batch{number: b.number + 1}
		}
		places = min(places, size-b.begun)
	}
	if g.held {
		places = 0
	}
	// Those that are not well anyway come first: it costs nothing. There have
	// to be places for all of them before one that is well is disturbed, which
	// is how they count against maxUnavailable.
	slices.SortStableFunc(g.candidates, func(x, y *Device) int {
		return cmp.Compare(rank(x), rank(y))
	})
	for _, d := range g.candidates {
		if places <= 0 {
			return
		}
		if _, taken := tell[d.ID]; taken {
			continue
		}
		places--
		b.begun++
		tell[d.ID] = goal
		e.devices[d.ID] = &memory{goal: goal, unready: in.Now, from: d.Told}
	}
}

func rank(d *Device) int {
	if available(d) {
		return 1
	}
	return 0
}
