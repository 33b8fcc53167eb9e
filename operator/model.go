package operator

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
	"github.com/nationtech/fleetctl/operator/desired"
	"github.com/nationtech/fleetctl/operator/match"
	"github.com/nationtech/fleetctl/operator/rollout"
	"github.com/nationtech/fleetctl/operator/rollup"
)

// model is the operator's picture of the fleet: which Deployment has which
// name, whom it matches, what it looks like to a device, and how its devices
// do. It does no I/O; every change says who is affected.
type model struct {
	mu      sync.Mutex
	index   *match.Index // selectors are named by deployment name
	rollup  *rollup.Tracker
	claims  map[string][]*claim // by deployment name
	active  map[string]*claim   // the claim that has the name
	history history             // the revisions of each Deployment
	version uint64              // grows with every change
}

// claim is one Deployment object. Names carry no namespace where devices see
// them, so several objects may claim one.
type claim struct {
	key        types.NamespacedName
	uid        types.UID
	created    time.Time
	generation int64
	selector   labels.Selector
	state      *desired.State // of the present score; nil when it cannot be run
	invalid    error          // why not
	object     *v1alpha1.Deployment

	fingerprint string          // of the present score
	policy      *rollout.Policy // nil: every device gets a change at once
	groupBy     string
	plan        *plan // who gets what, with a policy; nil until that was found out
}

// effects are the devices whose desired state may have changed and the
// Deployments whose status may have.
type effects struct {
	devices     []string
	deployments []types.NamespacedName
	rollouts    []types.NamespacedName // Deployments that have to be looked at by rolloutReconciler
	version     uint64                 // of the model after the change
}

func newModel() *model {
	return &model{index: match.NewIndex(), rollup: rollup.NewTracker(), claims: map[string][]*claim{}, active: map[string]*claim{}, history: newHistory()}
}

// newClaim reads a Deployment. Its score goes by the generation that devices
// know it by, if it is not a new one.
func newClaim(d *v1alpha1.Deployment, history history) *claim {
	c := &claim{
		key: types.NamespacedName{Namespace: d.Namespace, Name: d.Name}, uid: d.UID,
		created: d.CreationTimestamp.Time, generation: d.Generation, object: d,
	}
	if d.Spec.Rollout != nil {
		policy := rollout.NewPolicy(d.Spec.Rollout)
		c.policy, c.groupBy = &policy, d.Spec.Rollout.GroupBy
	}
	c.selector, c.invalid = d.Spec.TargetSelector.Selector()
	if c.invalid == nil {
		c.fingerprint, c.invalid = d.Spec.Score.Fingerprint()
	}
	if c.invalid == nil {
		c.state, c.invalid = desired.RenderScore(d, &d.Spec.Score, history.generation(d, c.fingerprint))
	}
	if c.selector == nil {
		c.selector = labels.Nothing()
	}
	return c
}

// setDeployment takes a Deployment that is not being deleted.
func (m *model) setDeployment(d *v1alpha1.Deployment) effects {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := newClaim(d, m.history)
	others := slices.DeleteFunc(m.claims[d.Name], func(o *claim) bool {
		switch {
		case o.key == c.key && o.uid != c.uid:
			m.history.forget(o.uid)
		case o.key == c.key && c.policy != nil:
			c.plan = o.plan
		}
		return o.key == c.key
	})
	m.claims[d.Name] = append(others, c)
	return m.settle(d.Name)
}

// removeDeployment takes a Deployment that is gone or being deleted.
func (m *model) removeDeployment(key types.NamespacedName) effects {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.claims[key.Name] = slices.DeleteFunc(m.claims[key.Name], func(o *claim) bool {
		if o.key == key {
			m.history.forget(o.uid)
		}
		return o.key == key
	})
	if len(m.claims[key.Name]) == 0 {
		delete(m.claims, key.Name)
	}
	return m.settle(key.Name)
}

// settle gives the name to the oldest claim and brings index and sums up to it.
func (m *model) settle(name string) effects {
	m.version++
	old, now := m.active[name], (*claim)(nil)
	if claims := m.claims[name]; len(claims) > 0 {
		now = slices.MinFunc(claims, older)
	}
	out := effects{version: m.version}
	for _, c := range m.claims[name] {
		out.deployments = append(out.deployments, c.key)
	}
	if now == nil {
		delete(m.active, name)
		out.devices = m.index.RemoveSelector(name).Left
		m.rollup.RemoveDeployment(name)
		return out
	}
	m.active[name] = now
	m.rollup.SetDeployment(name, string(now.uid), now.wireGeneration())
	out.rollouts = append(out.rollouts, now.key)
	change := m.index.SetSelector(name, now.selector)
	for _, device := range change.Joined {
		m.rollup.Join(name, device)
	}
	for _, device := range change.Left {
		m.rollup.Leave(name, device)
		now.plan.leave(device)
	}
	out.devices = slices.Concat(change.Joined, change.Left)
	// With a rollout it is the rollout that moves them.
	if old == nil || (old.policy == nil) != (now.policy == nil) || now.policy == nil && old.hash() != now.hash() {
		out.devices = append(out.devices, m.index.Devices(name)...)
	}
	return out
}

func (c *claim) hash() string {
	if c.state == nil {
		return ""
	}
	return c.state.Hash
}

// older orders claims: the oldest object first, then by namespace.
func older(a, b *claim) int {
	return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.key.Namespace, b.key.Namespace))
}

// setDevice takes the labels of a registered device.
func (m *model) setDevice(id string, l map[string]string) effects {
	m.mu.Lock()
	defer m.mu.Unlock()
	change := m.index.SetDevice(id, l)
	for _, name := range change.Joined {
		m.rollup.Join(name, id)
	}
	return m.moved(id, change)
}

// removeDevice takes a device that is gone or being deleted.
func (m *model) removeDevice(id string) effects {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rollup.Forget(id)
	return m.moved(id, m.index.RemoveDevice(id))
}

func (m *model) moved(id string, change match.Change) effects {
	for _, name := range change.Left {
		m.rollup.Leave(name, id)
		if c := m.active[name]; c != nil {
			c.plan.leave(id)
		}
	}
	out := effects{devices: []string{id}}
	for _, name := range slices.Concat(change.Joined, change.Left) {
		if c := m.active[name]; c != nil {
			out.deployments = append(out.deployments, c.key)
			if c.policy != nil {
				out.rollouts = append(out.rollouts, c.key)
			}
		}
	}
	return out
}

// report takes a device's state, and when it was received by our clock.
func (m *model) report(id string, s *wire.DeviceState, received time.Time) effects {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out effects
	names := m.index.Selectors(id)
	before := m.rolloutEntries(id, names)
	changed := m.rollup.Report(id, s, names)
	m.rollup.Received(id, received)
	m.rolloutsChanged(id, before, &out)
	for _, name := range changed {
		if c := m.active[name]; c != nil {
			out.deployments = append(out.deployments, c.key)
		}
	}
	return out
}

// standing is how one device does.
type standing struct {
	rollup.Standing
	// waiting are those of its pending deployments whose newest revision it
	// was not told to run: a rollout has not come to it.
	waiting []string
}

// standing gives how one device does.
func (m *model) standing(id string) standing {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := standing{Standing: m.rollup.Standing(id, m.index.Selectors(id))}
	working := out.Pending[:0]
	for _, name := range out.Pending {
		if m.active[name].waits(id) {
			out.waiting = append(out.waiting, name)
		} else {
			working = append(working, name)
		}
	}
	out.Pending = working
	return out
}

// want is what one device should run.
type want struct {
	states map[string]*desired.State // by deployment name
	// frozen are deployments whose present spec cannot be run: what the
	// device has of them stays as it is, for a mistake in a spec is no
	// reason to stop what works.
	frozen map[string]bool
	// held: what the device should run is not known yet. It keeps all that it
	// has until that was found out.
	held bool
	// version is of the model that this was read from.
	version uint64
}

// wantOf gives what a device should run. stored are the deployments that it is
// told to run now.
func (m *model) wantOf(id string, stored []string) want {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := want{states: map[string]*desired.State{}, frozen: map[string]bool{}, version: m.version}
	for _, name := range m.index.Selectors(id) {
		switch c := m.active[name]; {
		case c.policy != nil:
			c.plan.want(&w, name, id, stored)
		case c.state != nil:
			w.states[name] = c.state
		}
	}
	for _, name := range stored {
		if c := m.active[name]; c != nil && c.state == nil && c.policy == nil {
			w.frozen[name] = true
		}
	}
	return w
}

// deploymentView is what a Deployment's status is made from.
type deploymentView struct {
	generation int64
	summary    rollup.Summary
	rollout    *v1alpha1.RolloutStatus // as it is in the API; nil without spec.rollout
	invalid    error
	takenBy    string // namespace of the Deployment that has the name; "" when this one has
}

// view gives ok = false for a Deployment that is not known or being deleted.
func (m *model) view(key types.NamespacedName) (v deploymentView, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.IndexFunc(m.claims[key.Name], func(c *claim) bool { return c.key == key })
	if i < 0 {
		return v, false
	}
	c, active := m.claims[key.Name][i], m.active[key.Name]
	v = deploymentView{generation: c.generation, invalid: c.invalid}
	if active != c {
		v.takenBy = active.key.Namespace
	} else {
		v.summary = m.rollup.Summary(key.Name)
	}
	return v, true
}
