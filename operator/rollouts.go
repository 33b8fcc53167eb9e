package operator

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
	"github.com/nationtech/fleetctl/operator/desired"
	"github.com/nationtech/fleetctl/operator/rollout"
)

// rolloutReconciler keeps the history of one Deployment and, where its spec has
// a rollout, decides which of its devices gets which revision.
type rolloutReconciler struct {
	*core
	pace *pace

	mu      sync.Mutex
	runs    map[types.UID]*run
	linkage *linkage
}

// run is the rollout of one Deployment. Only one reconcile works on it at a
// time.
type run struct {
	engine rollout.Engine
	state  rollout.State
	shown  v1alpha1.RolloutStatus // as it was last written
	states map[rollout.Revision]*desired.State
}

func (c *core) addRollouts(mgr manager.Manager) error {
	err := builder.ControllerManagedBy(mgr).Named("revision").
		For(&v1alpha1.DeploymentRevision{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: 1, RateLimiter: backoff[reconcile.Request]()}).
		Complete(revisionReconciler{c})
	if err != nil {
		return err
	}
	r := &rolloutReconciler{core: c, pace: newPace(c.timing.StatusInterval), runs: map[types.UID]*run{}, linkage: newLinkage()}
	return addInternal(mgr, "rollout", apiWorkers, c.rollouts, r)
}

// most is how often the state may change in one look: a new target that is
// complete at once, failed, rolling back, rolled back.
const maxSteps = 6

func (r *rolloutReconciler) Reconcile(ctx context.Context, key types.NamespacedName) (reconcile.Result, error) {
	select {
	case <-r.loaded:
	case <-ctx.Done():
		return reconcile.Result{}, nil
	}
	v, ok := r.model.rolloutView(key)
	if !ok {
		return reconcile.Result{}, nil
	}
	if v.runnable {
		if again, err := r.remember(ctx, &v); err != nil {
			return reconcile.Result{}, err
		} else if again {
			return reconcile.Result{RequeueAfter: revisionRetry}, nil
		}
	}
	if v.policy == nil {
		r.forget(v.object.UID)
		return reconcile.Result{}, r.prune(ctx, &v, nil)
	}
	run := r.runOf(&v)
	if !v.planned {
		r.begin(key, &v)
	}
	r.render(key, &v, run)
	if !v.planned {
		for i := range v.devices {
			r.desired.add(v.devices[i].ID) // it was held until now
		}
	}
	if !r.linksKnown() {
		return reconcile.Result{RequeueAfter: linksRetry}, nil
	}
	// What cannot be run is not rolled out; devices keep what they have.
	if v, ok = r.model.rolloutView(key); !ok || v.policy == nil || !v.runnable {
		return reconcile.Result{}, nil
	}
	return r.step(ctx, key, &v, run)
}

// step decides until the state is settled and stored, and then tells devices.
func (r *rolloutReconciler) step(ctx context.Context, key types.NamespacedName, v *rolloutView, run *run) (reconcile.Result, error) {
	now := r.now()
	r.connect(v.devices, now)
	in := rollout.Input{Now: now, Policy: *v.policy, State: run.state, Target: rollout.Revision(v.generation), Devices: v.devices}
	for range maxSteps {
		out := run.engine.Step(&in)
		if out.Store {
			// First the record, then the deed: an operator that dies in
			// between goes on from it.
			if err := r.publish(ctx, v, run, &out); err != nil {
				return reconcile.Result{}, err
			}
			r.announceRollout(v, &in.State, &out.State)
			run.state, in.State = out.State, out.State
			continue
		}
		run.state = out.State
		r.apply(r.model.tell(key, out.Tell, now))
		if len(out.Tell) > 0 {
			r.log.Info("rollout", "deployment", key.Name, "namespace", key.Namespace, "devices", len(out.Tell), "progress", out.Picture.Message)
			return reconcile.Result{RequeueAfter: soon}, nil // for the picture after it
		}
		r.noteWaiting(v)
		return r.show(ctx, key, v, run, &out)
	}
	return reconcile.Result{RequeueAfter: soon}, nil
}

const (
	// soon is for what comes right after something that was just done.
	soon = 20 * time.Millisecond
	// revisionRetry is how long the cache may take to have what we wrote.
	revisionRetry = 100 * time.Millisecond
	linksRetry    = 200 * time.Millisecond
)

// show writes how far the rollout is, and says when to look again.
func (r *rolloutReconciler) show(ctx context.Context, key types.NamespacedName, v *rolloutView, run *run, out *rollout.Decision) (reconcile.Result, error) {
	result := reconcile.Result{}
	if !out.Again.IsZero() {
		result.RequeueAfter = max(out.Again.Sub(r.now()), soon)
	}
	if !out.Picture.Idle && (result.RequeueAfter == 0 || result.RequeueAfter > r.timing.PresenceTick) {
		result.RequeueAfter = r.timing.PresenceTick // devices return
	}
	if rolloutStatus(v, &out.State, &out.Picture).equal(&run.shown) {
		return unlessFailed(result, r.prune(ctx, v, &out.State))
	}
	if wait := r.pace.wait(key, r.now()); wait > 0 {
		if result.RequeueAfter == 0 || wait < result.RequeueAfter {
			result.RequeueAfter = wait
		}
		return result, nil
	}
	return unlessFailed(result, r.publish(ctx, v, run, out))
}

// noteWaiting has it said of the devices that the rollout has not come to:
// nothing that they report would.
func (r *rolloutReconciler) noteWaiting(v *rolloutView) {
	for i := range v.devices {
		d := &v.devices[i]
		if d.Told != rollout.Revision(v.generation) && r.registry.moved(d.ID, r.toSay(d.ID, r.registry.snapshot(d.ID).accepted)) {
			r.patient.add(d.ID)
		}
	}
}

// unlessFailed is what a reconcile gives: what failed comes back by itself.
func unlessFailed(result reconcile.Result, err error) (reconcile.Result, error) {
	if err != nil {
		return reconcile.Result{}, err
	}
	return result, nil
}

// runOf is the rollout of a Deployment; a new one goes on from the API's record.
func (r *rolloutReconciler) runOf(v *rolloutView) *run {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.runs[v.object.UID]
	if out == nil {
		out = &run{state: rolloutState(v)}
		if s := v.object.Status.Rollout; s != nil {
			out.shown = *s.DeepCopy()
		}
		r.runs[v.object.UID] = out
	}
	return out
}

func (r *rolloutReconciler) forget(uid types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.runs, uid)
}

// begin finds out what the devices were told before this operator was there.
func (r *rolloutReconciler) begin(key types.NamespacedName, v *rolloutView) {
	before, unknown := map[string]told{}, map[string]bool{}
	for i := range v.devices {
		id := v.devices[i].ID
		switch k, manifest := r.writer.toldOf(id, key.Name, string(v.object.UID)); {
		case k.generation != 0:
			before[id] = told{revision: rollout.Revision(k.generation), at: k.at}
		case !manifest && r.registry.older(id):
			unknown[id] = true
		}
	}
	r.model.setPlan(key, before, unknown)
}

// render makes the states of the revisions that are kept.
func (r *rolloutReconciler) render(key types.NamespacedName, v *rolloutView, run *run) {
	states := make(map[rollout.Revision]*desired.State, len(v.revisions))
	for _, rev := range v.revisions {
		g := rollout.Revision(rev.generation)
		if states[g] = run.states[g]; states[g] != nil {
			continue
		}
		s, err := desired.RenderScore(v.object, &rev.score, rev.generation)
		if err != nil {
			r.log.Warn("a revision cannot be run any more", "deployment", key.Name, "revision", rev.number, "err", err)
			delete(states, g)
			continue
		}
		states[g] = s
	}
	run.states = states
	r.model.setStates(key, states)
}
