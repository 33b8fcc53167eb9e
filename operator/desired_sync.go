package operator

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// desiredReconciler brings the stored keys of one device to what the model
// says. The queue merges the changes of a device that come in quick succession.
type desiredReconciler struct{ *core }

func (r desiredReconciler) Reconcile(ctx context.Context, device string) (reconcile.Result, error) {
	select {
	case <-r.loaded:
	case <-ctx.Done():
		return reconcile.Result{}, nil
	}
	w := r.model.wantOf(device, r.writer.stored(device))
	if w.held {
		return reconcile.Result{}, nil // the rollout that holds it brings it back
	}
	if err := r.seal(ctx, device, w); err != nil {
		return reconcile.Result{}, err
	}
	released, err := r.writer.sync(ctx, device, w, r.registry.known(device))
	for _, uid := range released {
		if key, leaving := r.departures.keyOf(types.UID(uid)); leaving {
			r.deployments.add(reconcile.Request{NamespacedName: key})
		}
	}
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("tell device %s what to run: %w", device, err)
	}
	for _, key := range r.departures.synced(device, w.version) {
		r.deployments.add(reconcile.Request{NamespacedName: key})
	}
	return reconcile.Result{}, nil
}
