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
	state      *desired.State // nil when the spec cannot be run
	invalid    error          // why not
}

// effects are the devices whose desired state may have changed and the
// Deployments whose status may have.
type effects struct {
	devices     []string
	deployments []types.NamespacedName
	version     uint64 // of the model after the change
}

func newModel() *model {
	return &model{index: match.NewIndex(), rollup: rollup.NewTracker(), claims: map[string][]*claim{}, active: map[string]*claim{}}
}

func newClaim(d *v1alpha1.Deployment) *claim {
	c := &claim{
		key: types.NamespacedName{Namespace: d.Namespace, Name: d.Name}, uid: d.UID,
		created: d.CreationTimestamp.Time, generation: d.Generation,
	}
	if c.selector, c.invalid = d.Spec.TargetSelector.Selector(); c.invalid == nil {
		c.state, c.invalid = desired.Render(d)
	}
	if c.selector == nil {
		c.selector = labels.Nothing()
	}
	return c
}

// setDeployment takes a Deployment that is not being deleted.
func (m *model) setDeployment(d *v1alpha1.Deployment) effects {
	c := newClaim(d)
	m.mu.Lock()
	defer m.mu.Unlock()
	others := slices.DeleteFunc(m.claims[d.Name], func(o *claim) bool { return o.key == c.key })
	m.claims[d.Name] = append(others, c)
	return m.settle(d.Name)
}

// removeDeployment takes a Deployment that is gone or being deleted.
func (m *model) removeDeployment(key types.NamespacedName) effects {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.claims[key.Name] = slices.DeleteFunc(m.claims[key.Name], func(o *claim) bool { return o.key == key })
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
	m.rollup.SetDeployment(name, string(now.uid), now.generation)
	change := m.index.SetSelector(name, now.selector)
	for _, device := range change.Joined {
		m.rollup.Join(name, device)
	}
	for _, device := range change.Left {
		m.rollup.Leave(name, device)
	}
	out.devices = slices.Concat(change.Joined, change.Left)
	if old == nil || old.hash() != now.hash() {
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
	}
	out := effects{devices: []string{id}}
	for _, name := range slices.Concat(change.Joined, change.Left) {
		if c := m.active[name]; c != nil {
			out.deployments = append(out.deployments, c.key)
		}
	}
	return out
}

// report takes a device's state.
func (m *model) report(id string, s *wire.DeviceState) effects {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out effects
	for _, name := range m.rollup.Report(id, s, m.index.Selectors(id)) {
		if c := m.active[name]; c != nil {
			out.deployments = append(out.deployments, c.key)
		}
	}
	return out
}

// want is what one device should run.
type want struct {
	states map[string]*desired.State // by deployment name
	// frozen are deployments whose present spec cannot be run: what the
	// device has of them stays as it is, for a mistake in a spec is no
	// reason to stop what works.
	frozen map[string]bool
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
		if s := m.active[name].state; s != nil {
			w.states[name] = s
		}
	}
	for _, name := range stored {
		if c := m.active[name]; c != nil && c.state == nil {
			w.frozen[name] = true
		}
	}
	return w
}

// deploymentView is what a Deployment's status is made from.
type deploymentView struct {
	generation int64
	summary    rollup.Summary
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
