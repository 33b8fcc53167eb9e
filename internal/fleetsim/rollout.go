package fleetsim

import (
	"context"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

const (
	rolloutName = "bench-rollout"
	// rolloutBatch is also what may be down at a time; the API's default.
	rolloutBatch = "10%"
	// startUp is how long a device takes to run something new, half of it at least.
	startUp = 500 * time.Millisecond
)

// Rollout is what it took to bring a change of one Deployment to all devices, in
// batches of a tenth.
type Rollout struct {
	Took    time.Duration // from the change until it is complete
	Batches int
	// MaxUnavailable is how many devices may be down at a time, and
	// MostUnavailable how many were, by what they themselves did.
	MaxUnavailable, MostUnavailable int
}

// rolling counts the devices that are between two versions.
type rolling struct {
	mu         sync.Mutex
	down, most int
}

func (r *rolling) add(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down += n
	r.most = max(r.most, r.down)
}

// roll measures a rollout over all devices, all of which are well.
func (f *fleet) roll(ctx context.Context) error {
	if !f.Rollout {
		return nil
	}
	err := f.each(ctx, "devices steady", connecting, func(ctx context.Context, d *device) error {
		d.steadily()
		return d.report(ctx)
	})
	if err != nil {
		return err
	}
	// What runs first comes to all at once: there is nothing that it could disturb.
	d := f.rolledOut("registry.invalid/bench:v1", "100%")
	err = f.Kube.Create(ctx, d)
	if apierrors.IsAlreadyExists(err) { // of a run that was cut off
		err = f.Kube.Patch(ctx, d, client.Merge)
	}
	if err != nil {
		return fmt.Errorf("deploy to all devices: %w", err)
	}
	if _, err := f.rolled(ctx, d.Generation); err != nil {
		return err
	}

	f.rolling.mu.Lock()
	f.rolling.most = f.rolling.down
	f.rolling.mu.Unlock()
	began := time.Now()
	d = f.rolledOut("registry.invalid/bench:v2", rolloutBatch)
	if err := f.Kube.Patch(ctx, d, client.Merge); err != nil {
		return fmt.Errorf("change what is deployed to all devices: %w", err)
	}
	status, err := f.rolled(ctx, d.Generation)
	if err != nil {
		return err
	}
	out := &Rollout{Took: time.Since(began), Batches: int(status.Batch)}
	out.MaxUnavailable, err = intstr.GetScaledValueFromIntOrPercent(d.Spec.Rollout.MaxUnavailable, len(f.devices), false)
	out.MaxUnavailable = max(1, out.MaxUnavailable)
	f.rolling.mu.Lock()
	defer f.rolling.mu.Unlock()
	out.MostUnavailable = f.rolling.most
	f.result.Rollout = out
	return err
}

// rolledOut is the Deployment that all devices match.
func (f *fleet) rolledOut(image, batch string) *v1alpha1.Deployment {
	amount, atOnce := intstr.FromString(batch), int32(0)
	return &v1alpha1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: rolloutName, Namespace: f.Namespace, Labels: map[string]string{Label: rolloutName}},
		Spec: v1alpha1.DeploymentSpec{
			TargetSelector: v1alpha1.LabelSelector{MatchExpressions: []v1alpha1.LabelRequirement{{Key: Label, Operator: string(metav1.LabelSelectorOpExists)}}},
			Score:          v1alpha1.Score{Type: wire.ScorePodmanV0, Data: v1alpha1.ScoreData{Services: []v1alpha1.Service{{Name: "app", Image: image}}}},
			Rollout:        &v1alpha1.Rollout{Batch: &amount, MaxUnavailable: &amount, MinReadySeconds: &atOnce},
		},
	}
}

// rolled waits until the generation's rollout is complete.
func (f *fleet) rolled(ctx context.Context, generation int64) (*v1alpha1.RolloutStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, f.patience())
	defer cancel()
	for {
		var d v1alpha1.Deployment
		if err := f.Kube.Get(ctx, client.ObjectKey{Namespace: f.Namespace, Name: rolloutName}, &d); err != nil {
			return nil, fmt.Errorf("look how far the rollout is: %w", err)
		}
		s := d.Status.Rollout
		if s != nil && s.ObservedGeneration >= generation {
			f.Progress(PhaseRollout, int(s.Ready), len(f.devices))
			switch s.Phase {
			case v1alpha1.RolloutComplete:
				return s, nil
			case v1alpha1.RolloutProgressing:
			default:
				return nil, fmt.Errorf("the rollout is %s: %s", s.Phase, s.Message)
			}
		}
		if !sleepUntil(ctx, time.Now().Add(100*time.Millisecond)) {
			return nil, fmt.Errorf("the rollout is not complete: %+v: %w", s, ctx.Err())
		}
	}
}

// steadily makes all that the device runs run well, and what is new to it take
// a moment.
func (d *device) steadily() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.steady = true
	d.accepted = func(before, after map[string]*job) {
		if j := after[rolloutName]; j != nil && j != before[rolloutName] {
			j.starting = true
			d.fleet.rolling.add(1)
		}
	}
}

// start brings up what is new on a device, and says so.
func (d *device) start(ctx context.Context) {
	d.mu.Lock()
	j := d.work[rolloutName]
	starting := j != nil && j.starting
	took := startUp/2 + time.Duration(d.random.Int64N(int64(startUp/2)))
	d.mu.Unlock()
	if !starting {
		return
	}
	up := time.Now().Add(took)
	d.insist(ctx)
	if !sleepUntil(ctx, up) {
		return
	}
	d.mu.Lock()
	j.starting = false
	d.mu.Unlock()
	d.fleet.rolling.add(-1)
	d.insist(ctx)
}

// insist reports until that is acknowledged.
func (d *device) insist(ctx context.Context) {
	for {
		err := d.report(ctx)
		if err == nil {
			return
		}
		d.fleet.failed(ctx, err)
		if !sleepUntil(ctx, time.Now().Add(time.Second)) {
			return
		}
	}
}
