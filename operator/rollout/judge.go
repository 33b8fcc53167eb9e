package rollout

import "time"

// standing is how a device does in the rollout to a goal.
type standing int

const (
	untouched  standing = iota // told something else, or nothing
	inProgress                 // told the goal and not ready yet; it takes one of the places
	ready                      // runs the goal, for Policy.MinReady
	failed                     // told the goal and does not run it
	lost                       // told the goal, then silent for the deadline; takes no place
	waiting                    // told the goal while it was away
)

// Reasons why a rollout waits for a device, or counts it as failed.
const (
	ReasonFailed           = "Failed"
	ReasonDeadlineExceeded = "DeadlineExceeded"
	ReasonNotReady         = "NotReady"
	ReasonOffline          = "Offline"
	ReasonLost             = "Lost"
	ReasonUnwell           = "NotRunning"
)

// verdict is a standing with why, and when it may change by itself.
type verdict struct {
	standing standing
	reason   string
	again    time.Time // zero: only by an event
}

// memory is what the engine remembers of a device that was told a goal.
type memory struct {
	goal    Revision
	unready time.Time // since when it has not been ready, as far as was seen
	failing time.Time // when it was first seen failing since it was last ready
	from    Revision  // what it was told before
}

// judge says how a device does. It updates m, and needs m.goal to be goal.
func judge(d *Device, m *memory, p *Policy, now time.Time, suspect bool) verdict {
	if d.Told != m.goal {
		return verdict{standing: untouched}
	}
	reports := d.Report.Revision == m.goal
	if reports && d.Report.Health == Running {
		began := latest(d.Report.Since, d.ToldAt)
		at := began.Add(p.MinReady)
		if !now.Before(at) {
			m.unready = time.Time{}
			// What fails again in a moment has not stopped failing.
			if !now.Before(began.Add(p.patience())) {
				m.failing = time.Time{}
			}
			return verdict{standing: ready}
		}
		m.notReady(now)
		// What has failed for good and starts once more has failed until it is ready.
		if !m.failing.IsZero() && !now.Before(m.failing.Add(p.patience())) {
			return verdict{standing: failed, reason: ReasonFailed, again: at}
		}
		if !d.Connected {
			return away(d, m, p, now, suspect)
		}
		// What starts again and again is never ready, and not always caught
		// in the act of failing.
		if limit := m.since(d).Add(p.Deadline + p.MinReady); !now.Before(limit) {
			return verdict{standing: failed, reason: ReasonDeadlineExceeded}
		}
		return verdict{standing: inProgress, reason: ReasonNotReady, again: at}
	}
	m.notReady(now)
	if reports && d.Report.Health == Failing {
		if m.failing.IsZero() {
			m.failing = now
		}
		final := m.failing.Add(p.patience())
		if !now.Before(final) {
			return verdict{standing: failed, reason: ReasonFailed}
		}
		if d.Connected {
			return verdict{standing: inProgress, reason: ReasonNotReady, again: final}
		}
	}
	if !d.Connected {
		return away(d, m, p, now, suspect)
	}
	limit := m.since(d).Add(p.Deadline)
	if !now.Before(limit) {
		return verdict{standing: failed, reason: ReasonDeadlineExceeded}
	}
	return verdict{standing: inProgress, reason: ReasonNotReady, again: limit}
}

// away judges a device that was told the goal, is not ready, and is gone. One
// that went before it was told is as any that is offline. One that went after
// may have been cut off by what it was told: until the deadline it keeps its
// place. The last good revision is not suspected.
func away(d *Device, m *memory, p *Policy, now time.Time, suspect bool) verdict {
	if !suspect || !d.Since.After(d.ToldAt) {
		return verdict{standing: waiting}
	}
	limit := latest(d.Since, m.unready).Add(p.Deadline)
	if now.Before(limit) {
		return verdict{standing: inProgress, reason: ReasonOffline, again: limit}
	}
	return verdict{standing: lost, reason: ReasonLost}
}

func (m *memory) notReady(now time.Time) {
	if m.unready.IsZero() {
		m.unready = now
	}
}

// since is when the time that a device may take began.
func (m *memory) since(d *Device) time.Time { return latest(m.unready, latest(d.Since, d.ToldAt)) }

// available says whether a device that the goal has not reached runs what it
// was told.
func available(d *Device) bool {
	return d.Told != 0 && d.Report.Revision == d.Told && d.Report.Health == Running
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
