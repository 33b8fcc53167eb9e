package rollout

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"
)

// behaviour is what a revision does on the devices that run it.
type behaviour struct {
	good    bool // runs everywhere; otherwise on no device, or on some
	partial int  // fails on so many of a hundred devices
	flaps   bool // a failing one starts again and again
	cuts    bool // cuts the device off when it starts
}

func (b behaviour) failsOn(id string) bool {
	if b.good {
		return false
	}
	h := fnv.New32a()
	fmt.Fprint(h, id)
	return b.partial == 0 || int(h.Sum32()%100) < b.partial
}

// played is a device of the simulation.
type played struct {
	id, group string
	connected bool
	since     time.Time // of connected
	back      time.Time // when it connects again
	start     time.Duration

	told   Revision // in the store
	toldAt time.Time
	has    Revision // what it was told last while connected
	hasAt  time.Time
	health Health
	seen   Report // what it last reported
	// touched: it ran well when it was told another revision, and has not
	// run well since.
	touched bool
}

// sim is a fleet, its operator and a clock.
type sim struct {
	*rapid.T
	now     time.Time
	started time.Time // of the operator
	engine  *Engine
	stored  State // what survives the operator
	state   State
	policy  Policy
	target  Revision
	newest  Revision
	goods   map[Revision]bool
	does    map[Revision]behaviour
	devices map[string]*played
	toldOf  map[Revision]map[string]bool // who was ever told a revision without having nothing
	widest  map[string]int               // group: largest batch that was allowed
	joined  int
	events  []string
}

func newSim(t *rapid.T) *sim {
	s := &sim{T: t, now: time.Unix(1_700_000_000, 0), engine: &Engine{}, does: map[Revision]behaviour{},
		devices: map[string]*played{}, toldOf: map[Revision]map[string]bool{}, widest: map[string]int{}}
	s.started = s.now
	return s
}

func (s *sim) note(format string, args ...any) {
	s.events = append(s.events, fmt.Sprintf("%4.0fs ", s.now.Sub(time.Unix(1_700_000_000, 0)).Seconds())+fmt.Sprintf(format, args...))
}

func (s *sim) fail(format string, args ...any) {
	s.Fatalf("%s\n%s", fmt.Sprintf(format, args...), strings.Join(s.events, "\n"))
}

func (s *sim) join(groups int) {
	s.joined++
	d := &played{
		id: fmt.Sprintf("d%03d", s.joined), group: fmt.Sprintf("g%d", s.joined%groups), connected: true, since: s.now,
		start: time.Duration(rapid.IntRange(0, 4).Draw(s.T, "start")) * time.Second,
	}
	s.devices[d.id] = d
}

func (s *sim) sorted() []*played {
	return slices.SortedFunc(maps.Values(s.devices), func(a, b *played) int { return strings.Compare(a.id, b.id) })
}

// tick is one second of the devices.
func (s *sim) tick() {
	s.now = s.now.Add(time.Second)
	for _, d := range s.sorted() {
		if !d.connected && !d.back.IsZero() && !s.now.Before(d.back) {
			d.connected, d.since, d.back = true, s.now, time.Time{}
			s.note("%s is back", d.id)
		}
		if d.connected && d.has != d.told {
			d.has, d.hasAt = d.told, s.now
		}
		d.live(s)
		if d.connected {
			if r := (Report{Revision: d.has, Health: d.health}); r.Revision != d.seen.Revision || r.Health != d.seen.Health {
				r.Since = s.now
				d.seen = r
			}
		}
		if d.connected && d.has == d.told && d.health == Running && d.has != 0 {
			d.touched = false
		}
	}
}

// live lets a device work on what it has.
func (d *played) live(s *sim) {
	does := s.does[d.has]
	age := s.now.Sub(d.hasAt)
	switch {
	case d.has == 0 || age < d.start:
		d.health = Working
	case does.cuts:
		d.health = Running
		if d.connected {
			d.cut(s, time.Time{})
		}
	case !does.failsOn(d.id):
		d.health = Running
	case does.flaps && int(age.Seconds())%3 == 0:
		d.health = Running
	default:
		d.health = Failing
	}
}

func (d *played) cut(s *sim, back time.Time) {
	d.connected, d.since, d.back = false, s.now, back
	s.note("%s is cut off until %v", d.id, back.Unix())
}

// restart is the operator's: what it remembers is gone.
func (s *sim) restart() {
	s.note("operator restarts")
	s.engine, s.state, s.started = &Engine{}, s.stored, s.now
}

func (s *sim) input() *Input {
	in := &Input{Now: s.now, Policy: s.policy, State: s.state, Target: s.target}
	for _, d := range s.sorted() {
		in.Devices = append(in.Devices, Device{
			ID: d.id, Group: d.group, Connected: d.connected, Since: latest(d.since, s.started),
			Told: d.told, ToldAt: d.toldAt, Report: d.seen,
		})
	}
	return in
}

// operate is one look of the operator. It may die after it stored the state.
func (s *sim) operate(dies bool) {
	for range 5 {
		in := s.input()
		out := s.engine.Step(in)
		s.state = out.State
		if !out.Store {
			s.check(in, &out)
			for id, r := range out.Tell {
				s.tell(s.devices[id], r)
			}
			s.stored = s.state
			return
		}
		s.note("%s of %d, stable %d: %s", s.state.Phase, s.state.Target, s.state.Stable, out.Picture.Message)
		s.stored = s.state
		if s.state.Phase == Complete {
			s.goods[s.state.Target] = true
		}
		if dies {
			s.restart()
			return
		}
	}
	s.fail("the state does not settle: %+v", s.state)
}

func (s *sim) tell(d *played, r Revision) {
	if d.told != 0 {
		d.touched = d.touched || d.health == Running && d.has == d.told
		if s.toldOf[r] == nil {
			s.toldOf[r] = map[string]bool{}
		}
		s.toldOf[r][d.id] = true
	}
	s.note("tell %s %d instead of %d", d.id, r, d.told)
	d.told, d.toldAt = r, s.now
}

// check holds every decision against the promises of docs/rollouts.md.
func (s *sim) check(in *Input, out *Decision) {
	type sum struct{ connected, touched, busy, told, well int }
	groups := map[string]*sum{}
	for _, d := range s.sorted() {
		g := groups[d.group]
		if g == nil {
			g = &sum{}
			groups[d.group] = g
		}
		if d.connected {
			g.connected++
		}
		r, told := out.Tell[d.id]
		touched, turn := d.touched, false
		if told {
			switch {
			case d.told == r:
				s.fail("%s is told %d again", d.id, r)
			case d.told == 0 && r == in.State.base():
			case !d.connected:
				s.fail("%s is offline and is told %d", d.id, r)
			case s.policy.Paused:
				s.fail("paused, and %s is told %d", d.id, r)
			default:
				g.told++
				turn = true
				if well := d.seen.Revision == d.told && d.seen.Health == Running; well && d.told != 0 {
					g.well++
					touched = true
				}
			}
		}
		if touched && d.connected && !s.givenUp(d) {
			g.touched++
		}
		if d.connected && (turn || d.told == in.State.goal() && d.touched && !s.givenUp(d)) {
			g.busy++
		}
	}
	for name, g := range groups {
		size, most := amount(s.policy.Batch, g.connected), amount(s.policy.MaxUnavailable, g.connected)
		s.widest[name] = max(s.widest[name], size)
		if g.told > min(size, most) {
			s.fail("%d of group %s are told at once; batch %d, most %d", g.told, name, size, most)
		}
		if g.well > 0 && g.touched > most {
			s.fail("%d of group %s are disturbed; most %d", g.touched, name, most)
		}
		if g.told > 0 && g.busy > size {
			s.fail("%d of group %s are in progress; batch %d", g.busy, name, size)
		}
	}
}

// givenUp says whether a device has had all the time that it gets: it counts
// as failed, and no longer as disturbed.
func (s *sim) givenUp(d *played) bool {
	return s.now.Sub(d.toldAt) >= s.policy.patience()
}
