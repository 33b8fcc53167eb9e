// Package rollout decides which device of a Deployment gets which revision, and
// when. It is pure: what it decides follows from what it is given and from what
// it saw before, and it does no I/O and reads no clock. It owns the rules that
// docs/rollouts.md states; who is told, and how, is the operator's affair.
//
// What has to outlast the operator is State, which the caller stores before it
// asks again, and what each device was told, which the store and the devices
// themselves know. Everything else the engine finds out anew.
package rollout

import (
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// Revision is what devices know a revision by: the generation of the
// Deployment when it first had it. 0 is none.
type Revision int64

// Phase is State's; that a rollout is paused is in the Policy.
type Phase string

// The phases.
const (
	Progressing Phase = "Progressing" // devices are brought to Target
	Complete    Phase = "Complete"    // every connected device was; those that return are
	Failed      Phase = "Failed"      // no device gets Target any more
	RollingBack Phase = "RollingBack" // devices are brought back to Stable
	RolledBack  Phase = "RolledBack"  // every connected device was; those that return are
)

// State is what is stored. The zero value is that of a Deployment that had no
// rollout yet.
type State struct {
	Phase    Phase
	Target   Revision // being rolled out
	Stable   Revision // the last whose rollout was complete
	Attempt  int64
	Started  time.Time
	Finished time.Time // of Complete, Failed and RolledBack
	Failure  string    // why it is Failed, RollingBack or RolledBack
	Batch    int       // number of the furthest group's batch
}

// goal is the revision that devices are brought to; 0 when none are.
func (s *State) goal() Revision {
	switch s.Phase {
	case Progressing, Complete:
		return s.Target
	case RollingBack, RolledBack:
		return s.Stable
	}
	return 0
}

// proven says whether the goal has been good before: nothing has to be waited
// for to go on with it.
func (s *State) proven() bool { return s.goal() == s.Stable && s.Phase != Complete }

// base is the revision of devices that have none; 0 when they have to wait for
// their turn.
func (s *State) base() Revision {
	if s.Phase == Complete {
		return s.Target
	}
	return s.Stable
}

// Device is one device that the Deployment's selector matches.
type Device struct {
	ID    string
	Group string // value of the label of spec.rollout.groupBy

	Connected bool
	// Since is when it connected or was lost, as far as is known.
	Since time.Time

	Told   Revision // that it is to run; 0: none
	ToldAt time.Time
	Report Report
}

// Report is what a device says of the Deployment.
type Report struct {
	Revision Revision // that it is about; 0: nothing
	Health   Health
	Since    time.Time // of Health, by our clock
	Message  string    // when failing
}

// Health is how a device does with a revision.
type Health int

// The healths.
const (
	Working Health = iota // pulling, creating, starting
	Running               // as desired
	Failing               // the last attempt failed; it is tried again
)

// Policy is spec.rollout with its defaults.
type Policy struct {
	MaxUnavailable intstr.IntOrString
	Batch          intstr.IntOrString
	MinReady       time.Duration
	Deadline       time.Duration
	MaxFailures    int
	Paused         bool
	AutoRollback   bool
	Attempt        int64
}

// The defaults, which are the CRD's too: objects of before may lack them.
const (
	defaultAmount   = "10%"
	defaultMinReady = 30
	defaultDeadline = 600
)

// NewPolicy reads spec.rollout.
func NewPolicy(r *v1alpha1.Rollout) Policy {
	return Policy{
		MaxUnavailable: value(r.MaxUnavailable, intstr.FromString(defaultAmount)),
		Batch:          value(r.Batch, intstr.FromString(defaultAmount)),
		MinReady:       time.Duration(value(r.MinReadySeconds, defaultMinReady)) * time.Second,
		Deadline:       time.Duration(value(r.ProgressDeadlineSeconds, defaultDeadline)) * time.Second,
		MaxFailures:    int(value(r.MaxFailures, 0)),
		Paused:         r.Paused,
		AutoRollback:   r.AutoRollback,
		Attempt:        r.Attempt,
	}
}

func value[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

// amount is so many of n: a percentage is rounded down, and one at least.
func amount(a intstr.IntOrString, n int) int {
	out, err := intstr.GetScaledValueFromIntOrPercent(&a, n, false)
	if err != nil { // the API server refuses it
		return 1
	}
	return max(out, 1)
}

// patience is how long a device that failed may go on failing before that is
// final: a tenth of the deadline, a minute at most. Pulls fail for a moment
// where links are poor.
func (p *Policy) patience() time.Duration { return min(p.Deadline/10, time.Minute) }
