package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// summaryReconciler writes the status of one Deployment: a few at once, then at
// most once in an interval for each, and all of them under the limiter that they
// share.
type summaryReconciler struct {
	*core
	pace *pace
	// budget is for the whole fleet: while every aggregate changes all the
	// time, as when all devices report at once, each is brought up to date
	// in its turn, and the API server has time for something else.
	budget *rate.Limiter
}

// The budget of status writes of Deployments, a second: less of it while the API
// server is slow, down to summaryLeast.
const (
	summaryRate  = 60
	summaryLeast = 15
	summaryBurst = 100
)

func newSummaryReconciler(c *core) summaryReconciler {
	return summaryReconciler{c, newPace(c.timing.StatusInterval), rate.NewLimiter(summaryRate, summaryBurst)}
}

func (r summaryReconciler) Reconcile(ctx context.Context, key types.NamespacedName) (reconcile.Result, error) {
	select {
	case <-r.loaded:
	case <-ctx.Done():
		return reconcile.Result{}, nil
	}
	live := &v1alpha1.Deployment{}
	if err := r.client.Get(ctx, key, live); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	_, changed, ok := r.status(key, live)
	if !ok {
		r.pace.forget(key)
	}
	if !changed {
		return reconcile.Result{}, nil
	}
	if wait := r.pace.wait(key, r.now()); wait > 0 {
		return reconcile.Result{RequeueAfter: wait}, nil
	}
	r.budget.SetLimit(rate.Limit(max(summaryLeast, summaryRate*r.limiter.Ease())))
	if err := r.budget.Wait(ctx); err != nil {
		return reconcile.Result{}, nil //nolint:nilerr // ctx has ended
	}
	status, changed, _ := r.status(key, live) // as it is by now
	if !changed {
		return reconcile.Result{}, nil
	}
	patch, err := deploymentStatusPatch(&status, live.Spec.Rollout == nil)
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("encode status of deployment %s: %w", key, err)
	}
	err = r.limiter.Do(ctx, func(ctx context.Context) error {
		return r.client.Status().Patch(ctx, live.DeepCopy(), client.RawPatch(types.MergePatchType, patch), client.FieldOwner(v1alpha1.ManagerOperator))
	})
	if client.IgnoreNotFound(err) != nil {
		return reconcile.Result{}, fmt.Errorf("patch status of deployment %s: %w", key, err)
	}
	r.announce(live, &status)
	return reconcile.Result{}, nil
}

// status is what a Deployment's should be, and whether that is another than it
// is. ok is false for one that is not known or being deleted.
func (r summaryReconciler) status(key types.NamespacedName, live *v1alpha1.Deployment) (status v1alpha1.DeploymentStatus, changed, ok bool) {
	v, ok := r.model.view(key)
	if !ok {
		return status, false, false
	}
	if live.Spec.Rollout != nil {
		v.rollout = live.Status.Rollout
	}
	status = deploymentStatus(&v, live.Status.Conditions, r.now())
	return status, !equality.Semantic.DeepEqual(status, live.Status), true
}

// announce tells of what a person has to solve, as often as is good.
func (r summaryReconciler) announce(live *v1alpha1.Deployment, status *v1alpha1.DeploymentStatus) {
	for _, c := range newlyTrue(live.Status.Conditions, status.Conditions) {
		if c.Type != v1alpha1.ConditionNameConflict && c.Type != v1alpha1.ConditionDegraded {
			continue
		}
		if pass, _ := r.events.allow(live.Namespace+"/"+live.Name, false, r.now()); pass {
			r.recorder.Eventf(live, nil, corev1.EventTypeWarning, c.Reason, "Deploy", "%.256s", c.Message)
		}
	}
}

// deploymentStatusPatch is a merge patch of the whole status: lastError is null
// when there is none, so that an old one goes. rolloutReconciler writes the
// rollout; it goes when the spec has none.
func deploymentStatusPatch(s *v1alpha1.DeploymentStatus, noRollout bool) ([]byte, error) {
	fields := map[string]any{
		"observedGeneration": s.ObservedGeneration,
		"ready":              s.Ready,
		"aggregate": map[string]any{
			"matchedDeviceCount": s.Aggregate.MatchedDeviceCount,
			"succeeded":          s.Aggregate.Succeeded,
			"failed":             s.Aggregate.Failed,
			"pending":            s.Aggregate.Pending,
			"lastError":          s.Aggregate.LastError,
		},
		"conditions": s.Conditions,
	}
	if noRollout {
		fields["rollout"] = nil
	}
	return json.Marshal(map[string]any{"status": fields})
}

// paceBurst is how many writes of an object that was quiet go at once: a change
// is seen at once, and so is what follows from it.
const paceBurst = 4

// pace spaces the writes of each object.
type pace struct {
	interval time.Duration

	mu sync.Mutex
	of map[types.NamespacedName]*rate.Limiter
}

func newPace(interval time.Duration) *pace {
	return &pace{interval: interval, of: map[types.NamespacedName]*rate.Limiter{}}
}

// wait is how long to wait before the next write; 0 takes the turn.
func (p *pace) wait(key types.NamespacedName, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.of[key]
	if l == nil {
		l = rate.NewLimiter(rate.Every(p.interval), paceBurst)
		p.of[key] = l
	}
	turn := l.ReserveN(now, 1)
	wait := turn.DelayFrom(now)
	if wait > 0 {
		turn.CancelAt(now)
	}
	return wait
}

func (p *pace) forget(key types.NamespacedName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.of, key)
}
