package operator

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// deploymentReconciler takes Deployments into the model, and holds on to those
// that are being deleted until no device is told to run them.
type deploymentReconciler struct{ *core }

func (r deploymentReconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	d := &v1alpha1.Deployment{}
	err := r.client.Get(ctx, req.NamespacedName, d)
	switch {
	case apierrors.IsNotFound(err):
		r.apply(r.model.removeDeployment(req.NamespacedName))
		r.events.forget(req.String())
		return reconcile.Result{}, nil
	case err != nil:
		return reconcile.Result{}, fmt.Errorf("read deployment %s: %w", req, err)
	case d.DeletionTimestamp != nil:
		return reconcile.Result{}, r.release(ctx, d)
	}
	// Before any key is written, so that no key outlives its Deployment.
	base := client.MergeFromWithOptions(d.DeepCopy(), client.MergeFromWithOptimisticLock{})
	if controllerutil.AddFinalizer(d, v1alpha1.FinalizerDesiredState) {
		if err := r.client.Patch(ctx, d, base, client.FieldOwner(v1alpha1.ManagerOperator)); err != nil {
			return reconcile.Result{}, fmt.Errorf("add finalizer to deployment %s: %w", req, err)
		}
	}
	r.apply(r.model.setDeployment(d))
	return reconcile.Result{}, nil
}

// release lets a deleted Deployment go once no device has a key of it. What
// has yet to happen for that brings the Deployment back here.
func (r deploymentReconciler) release(ctx context.Context, d *v1alpha1.Deployment) error {
	key := client.ObjectKeyFromObject(d)
	e := r.model.removeDeployment(key)
	r.departures.begin(d.UID, key, e.version, e.devices)
	r.apply(e)
	if !r.isLoaded() || !r.departures.complete(d.UID) || r.writer.held(string(d.UID)) {
		return nil
	}
	base := client.MergeFromWithOptions(d.DeepCopy(), client.MergeFromWithOptimisticLock{})
	if controllerutil.RemoveFinalizer(d, v1alpha1.FinalizerDesiredState) {
		err := r.client.Patch(ctx, d, base, client.FieldOwner(v1alpha1.ManagerOperator))
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("remove finalizer of deployment %s: %w", key, err)
		}
	}
	r.departures.end(d.UID)
	return nil
}
