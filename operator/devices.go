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

// deviceReconciler takes Devices into the model, and off-boards those that are
// being deleted.
type deviceReconciler struct{ *core }

func (r deviceReconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	d := &v1alpha1.Device{}
	err := r.client.Get(ctx, req.NamespacedName, d)
	switch {
	case apierrors.IsNotFound(err):
		r.registry.removeDevice(req.Name)
		r.events.forget(req.Name)
		r.apply(r.model.removeDevice(req.Name))
		return reconcile.Result{}, nil
	case err != nil:
		return reconcile.Result{}, fmt.Errorf("read device %s: %w", req.Name, err)
	case d.DeletionTimestamp != nil:
		return r.offboard(ctx, d)
	}
	r.takeDevice(d)
	return reconcile.Result{}, nil
}

func (c *core) takeDevice(d *v1alpha1.Device) {
	wasKnown := c.registry.known(d.Name)
	rekeyed := c.registry.setDevice(d)
	e := c.model.setDevice(d.Name, selectable(d))
	if wasKnown && !rekeyed && len(e.deployments) == 0 {
		e.devices = nil // nothing that it should run has changed
	}
	c.apply(e)
	c.devices.add(d.Name)
}

// selectable are a Device's labels as selectors see them. device-id holds its
// name even where somebody has set something else.
func selectable(d *v1alpha1.Device) map[string]string {
	out := map[string]string{}
	for key, value := range d.Labels {
		out[key] = value
	}
	out[v1alpha1.LabelDeviceID] = d.Name
	return out
}

// offboard tells a device to run nothing, gives it a moment to hear that, and
// then shuts it out and removes every key of it. What it was told it still does
// when it is cut off.
func (r deviceReconciler) offboard(ctx context.Context, d *v1alpha1.Device) (reconcile.Result, error) {
	if r.registry.leave(d.Name) {
		r.apply(r.model.removeDevice(d.Name))
	}
	if !r.isLoaded() {
		return reconcile.Result{RequeueAfter: r.timing.OffboardPoll}, nil
	}
	waited := r.now().Sub(d.DeletionTimestamp.Time)
	told := len(r.writer.stored(d.Name)) == 0 && r.registry.told(d.Name, r.writer.revision(d.Name))
	if !told && waited < r.timing.OffboardGrace {
		return reconcile.Result{RequeueAfter: r.timing.OffboardPoll}, nil
	}
	if err := r.shutOut(ctx, d.Name); err != nil {
		return reconcile.Result{}, err
	}
	// Only now, for a device that is connected writes them again.
	if err := r.store.ForgetDevice(ctx, d.Name); err != nil {
		return reconcile.Result{}, fmt.Errorf("remove the keys of device %s: %w", d.Name, err)
	}
	r.writer.forget(d.Name)
	r.registry.removeDevice(d.Name)
	base := client.MergeFromWithOptions(d.DeepCopy(), client.MergeFromWithOptimisticLock{})
	if controllerutil.RemoveFinalizer(d, v1alpha1.FinalizerOffboard) {
		err := r.client.Patch(ctx, d, base, client.FieldOwner(v1alpha1.ManagerOperator))
		if client.IgnoreNotFound(err) != nil {
			return reconcile.Result{}, fmt.Errorf("remove finalizer of device %s: %w", d.Name, err)
		}
	}
	r.log.Info("device off-boarded", "device", d.Name)
	return reconcile.Result{}, nil
}

// shutOut takes from a device what it logs in with, and ends its connection.
// The callout lets in no device whose object is being deleted.
func (r deviceReconciler) shutOut(ctx context.Context, device string) error {
	if r.identities != nil {
		if err := r.identities.RemoveDevice(ctx, device); err != nil {
			return fmt.Errorf("remove the keys of device %s at the issuer: %w", device, err)
		}
	}
	if r.links != nil {
		if err := r.links.Disconnect(ctx, device); err != nil {
			return err
		}
	}
	return nil
}
