package operator

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// registry is what is known of each device beside its deployments: what it
// says it is, when it was heard of, and whether the API has it.
type registry struct {
	timing Timing

	mu      sync.Mutex
	started time.Time // when heartbeats began to be watched
	records map[string]*record
}

type record struct {
	registered bool // the API has a Device that is not being deleted
	leaving    bool // the API has one that is being deleted
	machineID  string
	created    time.Time // of its object

	info      *wire.DeviceInfo // the last that was accepted
	intruder  string           // machine id of a report that was refused; "" when none is
	lastSeen  time.Time        // by the broker's clock
	accepted  uint64           // revision that the device says it holds
	published verdict          // what its status says
	renewed   time.Time        // lastHeartbeat in its status
}

// verdict is whether a device is alive.
type verdict string

const (
	alive     verdict = v1alpha1.ReasonHeartbeat
	missing   verdict = v1alpha1.ReasonHeartbeatMissed
	neverSeen verdict = v1alpha1.ReasonNeverSeen
)

func newRegistry(timing Timing) *registry {
	return &registry{timing: timing, records: map[string]*record{}}
}

func (r *registry) start(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.started = now
}

func (r *registry) of(device string) *record {
	rec := r.records[device]
	if rec == nil {
		rec = &record{}
		r.records[device] = rec
	}
	return rec
}

// setDevice notes the API's object of a device.
func (r *registry) setDevice(d *v1alpha1.Device) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.of(d.Name)
	rec.registered, rec.leaving, rec.machineID = true, false, d.Spec.MachineID
	rec.created = d.CreationTimestamp.Time
	rec.published, rec.renewed = publishedVerdict(d), time.Time{}
	if d.Status.LastHeartbeat != nil {
		rec.renewed = d.Status.LastHeartbeat.Time
	}
	rec.judgeIdentity()
}

// removeDevice forgets a device that is gone from the API.
func (r *registry) removeDevice(device string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.records, device)
}

// leave notes that a device's object is being deleted and says whether that is
// news.
func (r *registry) leave(device string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.of(device)
	news := !rec.leaving
	rec.registered, rec.leaving = false, true
	return news
}

// takeInfo notes what a device says it is.
func (r *registry) takeInfo(info wire.DeviceInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.of(info.Device)
	rec.info = &info
	rec.judgeIdentity()
}

// judgeIdentity refuses the info of another machine than the registered one.
func (rec *record) judgeIdentity() {
	if rec.info == nil {
		return
	}
	rec.intruder = ""
	if rec.machineID != "" && rec.info.MachineID != rec.machineID {
		rec.intruder = rec.info.MachineID
	}
}

// heard notes a heartbeat and says whether the device's object has to change:
// it was not known to be alive, or its lastHeartbeat is old.
func (r *registry) heard(device string, at time.Time) (renew bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.of(device)
	if at.After(rec.lastSeen) {
		rec.lastSeen = at
	}
	return rec.registered && (rec.published != alive || at.Sub(rec.renewed) >= r.timing.HeartbeatRenewal)
}

// reported notes what a device's state says of its manifest.
func (r *registry) reported(device string, revision uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.of(device).accepted = revision
}

// told says whether a device has taken the manifest of a revision.
func (r *registry) told(device string, revision uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.of(device).accepted >= revision
}

// snapshot gives a copy of a device's record.
func (r *registry) snapshot(device string) record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return *r.of(device)
}

// known says whether the API has an object of the device.
func (r *registry) known(device string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.records[device]
	return rec != nil && (rec.registered || rec.leaving)
}

// judge says whether a device is alive. settled is false for a while after the
// start: a device that was alive gets the time for its next heartbeat.
func (r *registry) judge(rec *record, now time.Time) (v verdict, settled bool) {
	switch {
	case rec.lastSeen.IsZero():
		v = neverSeen
	case now.Sub(rec.lastSeen) >= r.timing.HeartbeatTimeout:
		v = missing
	default:
		return alive, true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return v, rec.published != alive || now.Sub(r.started) >= r.timing.HeartbeatTimeout
}

// connected says whether a device is there.
func (r *registry) connected(device string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.records[device]
	return rec != nil && !rec.lastSeen.IsZero() && now.Sub(rec.lastSeen) < r.timing.HeartbeatTimeout
}

// older says whether a device was enrolled before this operator began to act.
func (r *registry) older(device string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.records[device]
	return rec != nil && !rec.created.IsZero() && rec.created.Before(r.started)
}

// silent lists the devices that fell silent and whose status says otherwise.
func (r *registry) silent(now time.Time) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	if now.Sub(r.started) < r.timing.HeartbeatTimeout {
		return nil
	}
	for id, rec := range r.records {
		if rec.registered && rec.published == alive && now.Sub(rec.lastSeen) >= r.timing.HeartbeatTimeout {
			out = append(out, id)
		}
	}
	return out
}

func publishedVerdict(d *v1alpha1.Device) verdict {
	for _, c := range d.Status.Conditions {
		if c.Type == v1alpha1.ConditionReady {
			return verdict(c.Reason)
		}
	}
	return ""
}

// all lists every device that something is known of.
func (r *registry) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.records))
}

// revisions lists every device with the revision that it says it holds.
func (r *registry) revisions() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[string]uint64, len(r.records))
	for id, rec := range r.records {
		out[id] = rec.accepted
	}
	return out
}
