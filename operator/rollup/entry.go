package rollup

import (
	"time"

	"github.com/nationtech/fleetctl/internal/wire"
)

// Entry is what a device last said of one deployment.
type Entry struct {
	UID        string
	Generation int64
	Phase      wire.Phase
	Message    string
	Since      time.Time // when Phase was entered; by our clock if Received was called
	// Err is what keeps the device from working on its manifest.
	Err string
}

// Received notes when a device's last report arrived, by our clock: devices'
// clocks differ.
func (t *Tracker) Received(device string, at time.Time) {
	if r := t.reports[device]; r != nil && !r.at.IsZero() {
		r.ahead = r.at.Sub(at)
	}
}

// Reported says whether a device has reported at all.
func (t *Tracker) Reported(device string) bool { return t.reports[device] != nil }

// Entry gives what a device said of a deployment; the zero Entry when nothing.
func (t *Tracker) Entry(device, name string) Entry {
	r := t.reports[device]
	if r == nil {
		return Entry{}
	}
	e, _ := r.deployment(name)
	out := Entry{UID: e.uid, Generation: e.generation, Phase: e.phase, Message: e.message, Err: r.err}
	if !e.since.IsZero() {
		out.Since = e.since.Add(-r.ahead)
	}
	return out
}
