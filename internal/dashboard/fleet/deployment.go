package fleet

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// Health is how a deployment is, in one word. The order is that of urgency.
type Health uint8

// What a deployment's health can be.
const (
	Failing Health = iota // devices tried and failed
	Blocked               // it cannot be carried out as it is written
	Rolling               // devices are on their way
	Idle                  // no device matches
	Running               // as asked, everywhere
	healths
)

// Healths lists all of them, the most urgent first.
func Healths() []Health { return []Health{Failing, Blocked, Rolling, Idle, Running} }

// String is what URLs and exports call it.
func (h Health) String() string {
	return [...]string{"failing", "blocked", "rolling", "idle", "running"}[h]
}

// Title is what people read.
func (h Health) Title() string {
	return [...]string{"Failing", "Blocked", "Rolling out", "No match", "Running"}[h]
}

// ParseHealth reads what String gives.
func ParseHealth(text string) (Health, bool) {
	for _, h := range Healths() {
		if h.String() == text {
			return h, true
		}
	}
	return 0, false
}

// Deployment is one deployment as pages show it. It is never changed.
type Deployment struct {
	*v1alpha1.Deployment
	Health   Health
	Reason   string
	Why      string
	Since    time.Time
	Selector labels.Selector // matches nothing when the object's cannot be read
	Images   []string
}

// Key is "namespace/name".
func (d *Deployment) Key() string { return d.Namespace + "/" + d.Name }

func newDeployment(o *v1alpha1.Deployment) *Deployment {
	d := &Deployment{Deployment: o, Health: Rolling, Since: o.CreationTimestamp.Time, Selector: labels.Nothing()}
	if s, err := o.Spec.TargetSelector.Selector(); err == nil {
		d.Selector = s
	}
	for _, s := range o.Spec.Score.Data.Services {
		d.Images = append(d.Images, s.Image)
	}
	c := meta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionAvailable)
	if c == nil {
		return d
	}
	d.Reason, d.Why, d.Since = c.Reason, c.Message, c.LastTransitionTime.Time
	switch {
	case c.Status == metav1.ConditionTrue:
		d.Health = Running
	case c.Reason == v1alpha1.ReasonNoMatch:
		d.Health = Idle
	case c.Reason == v1alpha1.ReasonInvalidSpec, c.Reason == v1alpha1.ReasonNameTaken:
		d.Health = Blocked
	case o.Status.Aggregate.Failed > 0:
		d.Health = Failing
	}
	return d
}
