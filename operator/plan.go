package operator

import (
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
	"github.com/nationtech/fleetctl/operator/desired"
	"github.com/nationtech/fleetctl/operator/rollout"
	"github.com/nationtech/fleetctl/operator/rollup"
)

// plan is which device of a Deployment gets which revision. It is guarded by
// the model's lock. The store and the devices are its record: see
// docs/decisions/0010-who-runs-which-revision.md.
type plan struct {
	told map[string]told
	// unknown are devices of which neither the store nor they themselves have
	// said what they were told: the store was wiped while no operator ran.
	unknown map[string]bool
	states  map[rollout.Revision]*desired.State
}

// told is what a device was told to run.
type told struct {
	revision rollout.Revision
	at       time.Time
}

func (p *plan) leave(device string) {
	if p != nil {
		delete(p.told, device)
		delete(p.unknown, device)
	}
}

// waits says whether a device was not told the present score, which its rollout
// has to.
func (c *claim) waits(device string) bool {
	return c != nil && c.policy != nil && c.plan != nil && !c.plan.unknown[device] &&
		c.plan.told[device].revision != rollout.Revision(c.wireGeneration())
}

// want adds to w what a device should have of a Deployment with a rollout.
func (p *plan) want(w *want, name, device string, stored []string) {
	if p == nil || p.unknown[device] {
		w.held = true
		return
	}
	t := p.told[device]
	switch state := p.states[t.revision]; {
	case t.revision == 0:
	case state != nil:
		w.states[name] = state
	case slices.Contains(stored, name):
		w.frozen[name] = true // of a revision that is not kept any more
	default:
		w.held = true
	}
}

// wireGeneration is that by which devices know the present score.
func (c *claim) wireGeneration() int64 {
	if c.state != nil {
		return c.state.Generation
	}
	return c.generation
}

// rolloutEntries are a device's reports about Deployments that have a rollout.
func (m *model) rolloutEntries(id string, names []string) map[string]rollup.Entry {
	var out map[string]rollup.Entry
	for _, name := range names {
		if m.active[name].policy != nil {
			if out == nil {
				out = map[string]rollup.Entry{}
			}
			out[name] = m.rollup.Entry(id, name)
		}
	}
	return out
}

// rolloutsChanged adds to out the Deployments about which a report says
// something else than before, and the device if it waited for its own report.
func (m *model) rolloutsChanged(id string, before map[string]rollup.Entry, out *effects) {
	for name, old := range before {
		now, c := m.rollup.Entry(id, name), m.active[name]
		if c.plan != nil && c.plan.unknown[id] {
			delete(c.plan.unknown, id)
			c.plan.recall(c, id, now)
			out.rollouts, out.devices = append(out.rollouts, c.key), append(out.devices, id)
			continue
		}
		if now.Generation != old.Generation || now.Phase != old.Phase || now.UID != old.UID || now.Err != old.Err {
			out.rollouts = append(out.rollouts, c.key)
		}
	}
}

// rolloutsOf lists the Deployments with a rollout that match a device; "" means
// of every device.
func (m *model) rolloutsOf(device string) (out []types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := m.index.Selectors(device)
	if device == "" {
		names = slices.Collect(maps.Keys(m.active))
	}
	for _, name := range names {
		if c := m.active[name]; c.policy != nil {
			out = append(out, c.key)
		}
	}
	return out
}

// recall takes what a device says that it was told.
func (p *plan) recall(c *claim, device string, e rollup.Entry) {
	if e.UID == string(c.uid) && e.Generation != 0 {
		p.told[device] = told{revision: rollout.Revision(e.Generation), at: e.Since}
	}
}

// rolloutView is what the rollout of one Deployment is decided from.
type rolloutView struct {
	object      *v1alpha1.Deployment
	fingerprint string
	generation  int64 // by which devices know the present score
	runnable    bool
	policy      *rollout.Policy
	planned     bool
	revisions   []*revision // the newest first
	devices     []rollout.Device
}

// rolloutView gives ok = false for a Deployment that does not have its name.
func (m *model) rolloutView(key types.NamespacedName) (v rolloutView, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.active[key.Name]
	if c == nil || c.key != key {
		return v, false
	}
	v = rolloutView{
		object: c.object, fingerprint: c.fingerprint, generation: c.wireGeneration(), runnable: c.state != nil,
		policy: c.policy, planned: c.plan != nil, revisions: m.history.list(c.uid),
	}
	if c.policy == nil {
		return v, true
	}
	for _, id := range m.index.Devices(key.Name) {
		d := rollout.Device{ID: id}
		if c.groupBy != "" {
			d.Group = m.index.Label(id, c.groupBy)
		}
		if c.plan != nil {
			if c.plan.unknown[id] {
				continue
			}
			t := c.plan.told[id]
			d.Told, d.ToldAt = t.revision, t.at
		}
		d.Report = reportOf(m.rollup.Entry(id, key.Name), string(c.uid), d.Told)
		v.devices = append(v.devices, d)
	}
	return v, true
}

// reportOf is what a device's report means for a rollout.
func reportOf(e rollup.Entry, uid string, told rollout.Revision) rollout.Report {
	r := rollout.Report{Since: e.Since, Message: e.Message}
	if e.UID == uid {
		r.Revision = rollout.Revision(e.Generation)
	}
	switch e.Phase {
	case wire.PhaseRunning, wire.PhaseStopped:
		r.Health = rollout.Running
	case wire.PhaseFailed:
		r.Health = rollout.Failing
	}
	if e.Err != "" && r.Revision != told {
		// It has not got there, and says that it cannot.
		r = rollout.Report{Revision: told, Health: rollout.Failing, Message: e.Err}
	}
	return r
}

// setPlan begins a plan with what devices were told before.
func (m *model) setPlan(key types.NamespacedName, told map[string]told, unknown map[string]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.active[key.Name]
	if c == nil || c.key != key || c.policy == nil || c.plan != nil {
		return
	}
	c.plan = &plan{told: told, unknown: unknown, states: map[rollout.Revision]*desired.State{}}
	for id := range unknown {
		if m.rollup.Reported(id) {
			delete(unknown, id)
			c.plan.recall(c, id, m.rollup.Entry(id, key.Name))
		}
	}
}

// setStates gives a plan the states of the revisions that are kept, and drops
// those of others.
func (m *model) setStates(key types.NamespacedName, states map[rollout.Revision]*desired.State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.active[key.Name]; c != nil && c.key == key && c.plan != nil {
		c.plan.states = states
	}
}

// tell notes what devices are told from now on.
func (m *model) tell(key types.NamespacedName, tell map[string]rollout.Revision, now time.Time) effects {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.active[key.Name]
	if c == nil || c.key != key || c.plan == nil || len(tell) == 0 {
		return effects{}
	}
	m.version++
	out := effects{version: m.version}
	for id, r := range tell {
		c.plan.told[id] = told{revision: r, at: now}
		out.devices = append(out.devices, id)
	}
	return out
}
