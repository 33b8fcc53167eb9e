// Package rollup sums up what devices report into one figure per deployment.
// It is told who belongs to a deployment and what each device reports, and
// keeps the counts as it goes: a report costs what it changes. It is pure and
// not safe for concurrent use.
package rollup

import (
	"cmp"
	"slices"
	"time"

	"github.com/nationtech/fleetctl/internal/wire"
)

// Outcome is how one device does with one deployment.
type Outcome int

// The outcomes.
const (
	Pending   Outcome = iota // working on it, or not heard of
	Succeeded                // runs this generation as asked
	Failed                   // the last attempt at this generation failed
)

// Failure is why a device failed, and since when by its own clock.
type Failure struct {
	Device  string
	Message string
	At      time.Time
}

// Summary is Matched = Succeeded + Failed + Pending.
type Summary struct {
	Matched, Succeeded, Failed, Pending int32

	// LastError is the most recent failure among the devices that are
	// failed now; nil when there is none.
	LastError *Failure
	// Waiting names up to MaxWaiting devices that are pending, sorted.
	Waiting []string
}

// maxWarnings is how many warnings of a device are kept.
const maxWarnings = 8

// MaxWaiting is how many pending devices a Summary names.
const MaxWaiting = 3

// Tracker holds the members of every deployment and the reports of every
// device.
type Tracker struct {
	deployments map[string]*deployment
	reports     map[string]*report
}

type deployment struct {
	uid        string
	generation int64
	members    map[string]Outcome
	counts     [3]int32
}

// report is the part of a wire.DeviceState that counts.
type report struct {
	deployments []entry // by name: devices report all the time, and a map would be ten times as large
	err         string  // what keeps the device from working on its manifest
	warnings    []string
	at          time.Time
	ahead       time.Duration // the device's clock, of ours
}

type entry struct {
	name       string
	uid        string
	generation int64
	phase      wire.Phase
	message    string
	since      time.Time
}

// NewTracker gives an empty tracker.
func NewTracker() *Tracker {
	return &Tracker{deployments: map[string]*deployment{}, reports: map[string]*report{}}
}

// SetDeployment says what reports have to be about to count: older ones, and
// those about another object of the name, leave a device pending.
func (t *Tracker) SetDeployment(name, uid string, generation int64) {
	d := t.deployments[name]
	if d == nil {
		d = &deployment{members: map[string]Outcome{}}
		t.deployments[name] = d
	}
	if d.uid == uid && d.generation == generation {
		return
	}
	d.uid, d.generation = uid, generation
	for device := range d.members {
		d.set(device, t.judge(name, d, device))
	}
}

// RemoveDeployment forgets a deployment and its members.
func (t *Tracker) RemoveDeployment(name string) { delete(t.deployments, name) }

// Join makes a device a member of a deployment that was set.
func (t *Tracker) Join(name, device string) {
	if d := t.deployments[name]; d != nil {
		d.set(device, t.judge(name, d, device))
	}
}

// Leave ends a membership.
func (t *Tracker) Leave(name, device string) {
	if d := t.deployments[name]; d != nil {
		d.drop(device)
	}
}

// Report takes a device's state and gives those of the named deployments whose
// summary it changed. The names are all that the device is a member of.
func (t *Tracker) Report(device string, s *wire.DeviceState, memberOf []string) (changed []string) {
	old := t.reports[device]
	r := &report{deployments: make([]entry, 0, len(s.Deployments)), err: wire.ClipMessage(s.Error), at: s.At}
	for _, w := range s.Warnings[:min(len(s.Warnings), maxWarnings)] {
		r.warnings = append(r.warnings, wire.ClipMessage(w))
	}
	for _, d := range s.Deployments {
		r.deployments = append(r.deployments, entry{d.Name, d.UID, d.Generation, d.Phase, wire.ClipMessage(d.Message), d.Since})
	}
	slices.SortStableFunc(r.deployments, func(a, b entry) int { return cmp.Compare(a.name, b.name) })
	t.reports[device] = r
	for _, name := range memberOf {
		d := t.deployments[name]
		if d == nil {
			continue
		}
		before := d.members[device]
		after := t.judge(name, d, device)
		d.set(device, after)
		if before != after || after == Failed && (old == nil || old.failure(name) != r.failure(name)) {
			changed = append(changed, name)
		}
	}
	return changed
}

// Forget drops a device's report.
func (t *Tracker) Forget(device string) { delete(t.reports, device) }

// Summary sums up a deployment; zero when there is none of the name.
func (t *Tracker) Summary(name string) Summary {
	d := t.deployments[name]
	if d == nil {
		return Summary{}
	}
	s := Summary{
		Matched: int32(len(d.members)), Succeeded: d.counts[Succeeded],
		Failed: d.counts[Failed], Pending: d.counts[Pending],
	}
	if s.Failed == 0 && s.Pending == 0 {
		return s
	}
	for device, outcome := range d.members {
		switch outcome {
		case Failed:
			f := t.reports[device].failure(name)
			f.Device = device
			if s.LastError == nil || later(f, *s.LastError) {
				s.LastError = &f
			}
		case Pending:
			s.Waiting = append(s.Waiting, device)
		}
	}
	slices.Sort(s.Waiting)
	s.Waiting = s.Waiting[:min(len(s.Waiting), MaxWaiting)]
	return s
}

// later orders failures by time and, so that the choice is stable, by device.
func later(a, b Failure) bool {
	return cmp.Or(a.At.Compare(b.At), -cmp.Compare(a.Device, b.Device)) > 0
}

func (t *Tracker) judge(name string, d *deployment, device string) Outcome {
	r := t.reports[device]
	if r == nil {
		return Pending
	}
	e, ok := r.deployment(name)
	if !ok || e.uid != d.uid || e.generation != d.generation {
		// It has not got there; if it says that it cannot, it failed.
		if r.err != "" {
			return Failed
		}
		return Pending
	}
	switch e.phase {
	case wire.PhaseRunning, wire.PhaseStopped:
		return Succeeded
	case wire.PhaseFailed:
		return Failed
	default:
		return Pending
	}
}

// deployment is what the device said of one of them.
func (r *report) deployment(name string) (entry, bool) {
	i, found := slices.BinarySearchFunc(r.deployments, name, func(e entry, name string) int { return cmp.Compare(e.name, name) })
	if !found {
		return entry{}, false
	}
	return r.deployments[i], true
}

// failure is why the device fails at a deployment, without its name.
func (r *report) failure(name string) Failure {
	if e, ok := r.deployment(name); ok && e.phase == wire.PhaseFailed {
		return Failure{Message: e.message, At: e.since}
	}
	return Failure{Message: r.err, At: r.at}
}

func (d *deployment) set(device string, o Outcome) {
	d.drop(device)
	d.members[device] = o
	d.counts[o]++
}

func (d *deployment) drop(device string) {
	if old, ok := d.members[device]; ok {
		d.counts[old]--
		delete(d.members, device)
	}
}
