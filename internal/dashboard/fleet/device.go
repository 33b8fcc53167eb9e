package fleet

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// State is how a device is, in one word. The order is that of urgency.
type State uint8

// The states.
const (
	Conflict State = iota // another machine claims its id
	Offline               // heartbeats stopped
	New                   // enrolled, and never heard of
	Ready                 // heartbeats arrive
	states
)

// States lists all of them, the most urgent first.
func States() []State { return []State{Conflict, Offline, New, Ready} }

// String is what URLs and exports call a state.
func (s State) String() string { return [...]string{"conflict", "offline", "new", "ready"}[s] }

// Title is what people read.
func (s State) Title() string { return [...]string{"Conflict", "Offline", "Never seen", "Ready"}[s] }

// ParseState reads what String gives.
func ParseState(text string) (State, bool) {
	for _, s := range States() {
		if s.String() == text {
			return s, true
		}
	}
	return 0, false
}

// Device is one device as pages show it. It is never changed: a change of the
// object makes a new one.
type Device struct {
	*v1alpha1.Device
	State     State
	Reason    string // of the condition that State follows from
	Why       string // its message
	Warning   string // what its agent warns of; "" of nothing
	Since     time.Time
	Heartbeat time.Time // zero: never
}

func newDevice(o *v1alpha1.Device) *Device {
	d := &Device{Device: o, State: New, Since: o.CreationTimestamp.Time}
	if o.Status.LastHeartbeat != nil {
		d.Heartbeat = o.Status.LastHeartbeat.Time
	}
	set := func(s State, c *metav1.Condition) {
		d.State, d.Reason, d.Why, d.Since = s, c.Reason, c.Message, c.LastTransitionTime.Time
	}
	if c := meta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionReady); c != nil {
		switch {
		case c.Status == metav1.ConditionTrue:
			set(Ready, c)
		case c.Reason == v1alpha1.ReasonNeverSeen:
			set(New, c)
		default:
			set(Offline, c)
		}
	}
	if c := meta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionIdentityConflict); c != nil && c.Status == metav1.ConditionTrue {
		set(Conflict, c)
	}
	if c := meta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionWarning); c != nil && c.Status == metav1.ConditionTrue {
		d.Warning = c.Message
	}
	return d
}

// LabelSet is the device's labels for a selector to match.
func (d *Device) LabelSet() labels.Set { return d.Labels }
