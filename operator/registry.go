package operator

import (
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

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
	enrolled   bool
	revoked    bool
	machineID  string
	sealingKey string    // public, in base64
	created    time.Time // of its object

	info      *wire.DeviceInfo // the last that was accepted
	intruder  string           // machine id of a report that was refused; "" when none is
	lastSeen  time.Time        // by the broker's clock
	accepted  uint64           // revision that the device says it holds
	turn      bool             // what may wait has waited
	published verdict          // what its status says
	connected bool             // and of its connection
	progress  string           // and of its progress and warnings
	renewed   time.Time        // lastHeartbeat in its status
}

// verdict is whether a device is alive.
type verdict string

const (
	alive        verdict = v1alpha1.ReasonHeartbeat
	missing      verdict = v1alpha1.ReasonHeartbeatMissed
	neverSeen    verdict = v1alpha1.ReasonNeverSeen
	disconnected verdict = v1alpha1.ReasonDisconnected
	revoked      verdict = v1alpha1.ReasonRevoked
	notEnrolled  verdict = v1alpha1.ReasonNotEnrolled
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

// setDevice notes the API's object of a device, and says whether what is for it
// alone has to be sealed to another key than before.
func (r *registry) setDevice(d *v1alpha1.Device) (rekeyed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.of(d.Name)
	rekeyed = rec.sealingKey != d.Spec.SealingKey
	rec.registered, rec.leaving, rec.machineID, rec.sealingKey = true, false, d.Spec.MachineID, d.Spec.SealingKey
	rec.created = d.CreationTimestamp.Time
	rec.enrolled, rec.revoked = d.Spec.Enrolled != nil, d.Spec.Revoked != nil
	rec.published, rec.progress, rec.renewed = "", "", time.Time{}
	if c := meta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionReady); c != nil {
		rec.published = verdict(c.Reason)
	}
	rec.connected = meta.IsStatusConditionTrue(d.Status.Conditions, v1alpha1.ConditionConnected)
	rec.progress = said(d.Status.Conditions)
	if d.Status.LastHeartbeat != nil {
		rec.renewed = d.Status.LastHeartbeat.Time
	}
	rec.judgeIdentity()
	return rekeyed
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

// heard notes a heartbeat and says how soon the device's object has to change:
// at once when it was not known to be alive, some time when its lastHeartbeat is
// old.
func (r *registry) heard(device string, at time.Time) urgency {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.of(device)
	if at.After(rec.lastSeen) {
		rec.lastSeen = at
	}
	switch {
	case !rec.registered:
		return never
	case rec.published != alive:
		return atOnce
	case at.Sub(rec.renewed) >= r.timing.HeartbeatRenewal:
		return waits
	}
	return never
}

// reported notes what a device's state says of its manifest.
func (r *registry) reported(device string, revision uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.of(device).accepted = revision
}

// moved says whether there is something else to say of a device than its status
// does.
func (r *registry) moved(device, now string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.of(device)
	return rec.registered && rec.progress != now
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

// startedAt is when heartbeats began to be watched.
func (r *registry) startedAt() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.started
}

// heardLately says whether a device gave a sign of life within the timeout.
func (r *registry) heardLately(device string, now time.Time) bool {
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

// registered gives a copy of each device that the API has.
func (r *registry) registered() map[string]record {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[string]record, len(r.records))
	for id, rec := range r.records {
		if rec.registered {
			out[id] = *rec
		}
	}
	return out
}

// giveTurn and takeTurn are how a device that waited gets its write.
func (r *registry) giveTurn(device string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.of(device).turn = true
}

func (r *registry) takeTurn(device string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.of(device)
	had := rec.turn
	rec.turn = false
	return had
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
