package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// registrationReconciler updates the Device of one device from what the device
// says of itself. Making Devices is not its affair: a device that was never
// enrolled, or was off-boarded, has none, whatever it reports.
type registrationReconciler struct{ *core }

func (r registrationReconciler) Reconcile(ctx context.Context, device string) (reconcile.Result, error) {
	select {
	case <-r.loaded:
	case <-ctx.Done():
		return reconcile.Result{}, nil
	}
	return reconcile.Result{}, r.update(ctx, device)
}

func (r registrationReconciler) update(ctx context.Context, device string) error {
	live, err := r.live(ctx, device)
	if err != nil || live == nil || live.DeletionTimestamp != nil {
		return err
	}
	rec := r.registry.snapshot(device)
	if err := r.label(ctx, live, &rec); err != nil {
		return err
	}
	return r.publish(ctx, live, &rec)
}

// live gives the Device in the API, or nil.
func (r registrationReconciler) live(ctx context.Context, device string) (*v1alpha1.Device, error) {
	d := &v1alpha1.Device{}
	err := r.client.Get(ctx, client.ObjectKey{Name: device}, d)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read device %s: %w", device, err)
	}
	return d, nil
}

// label applies the device's labels as the agent's field manager, if they are
// not what the API has.
func (r registrationReconciler) label(ctx context.Context, live *v1alpha1.Device, rec *record) error {
	if rec.info == nil || rec.intruder != "" {
		return r.adopt(ctx, live)
	}
	device := live.Name
	labels, err := agentLabels(device, rec.info.Labels, live)
	if err != nil {
		r.log.Warn("labels of a device are left out", "device", device, "err", err)
	}
	if upToDate(labels, live) && slices.Contains(live.Finalizers, v1alpha1.FinalizerOffboard) {
		return nil
	}
	object := map[string]any{"metadata": map[string]any{
		"name": device,
		// A Device that went in the meantime is not made again by this.
		"uid":        string(live.UID),
		"labels":     anyMap(labels),
		"finalizers": []any{v1alpha1.FinalizerOffboard},
	}}
	if id := live.Spec.MachineID; id != "" {
		// It may be this field manager's alone, which registered devices
		// once: what an apply leaves out goes.
		object["spec"] = map[string]any{"machineId": id}
	}
	u := &unstructured.Unstructured{Object: object}
	u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("Device"))
	err = r.limiter.Do(ctx, func(ctx context.Context) error {
		return r.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(v1alpha1.ManagerAgent))
	})
	if err != nil {
		return fmt.Errorf("label device %s: %w", device, err)
	}
	return nil
}

// adopt gives a Device that has not reported yet what every Device has; one that
// a person made may lack it. What the agent applied before is not touched.
func (r registrationReconciler) adopt(ctx context.Context, live *v1alpha1.Device) error {
	if live.Labels[v1alpha1.LabelDeviceID] == live.Name && slices.Contains(live.Finalizers, v1alpha1.FinalizerOffboard) {
		return nil
	}
	d := live.DeepCopy()
	base := client.MergeFromWithOptions(live, client.MergeFromWithOptimisticLock{})
	if d.Labels == nil {
		d.Labels = map[string]string{}
	}
	d.Labels[v1alpha1.LabelDeviceID] = d.Name
	if !slices.Contains(d.Finalizers, v1alpha1.FinalizerOffboard) {
		d.Finalizers = append(d.Finalizers, v1alpha1.FinalizerOffboard)
	}
	err := r.limiter.Do(ctx, func(ctx context.Context) error {
		return r.client.Patch(ctx, d, base, client.FieldOwner(v1alpha1.ManagerOperator))
	})
	if err != nil {
		return fmt.Errorf("adopt device %s: %w", live.Name, err)
	}
	return nil
}

// publish patches the status if it is not what is known.
func (r registrationReconciler) publish(ctx context.Context, live *v1alpha1.Device, rec *record) error {
	status, how := r.deviceStatus(live, rec)
	switch {
	case how == never:
		return nil
	case how == waits && !r.registry.takeTurn(live.Name):
		r.patient.add(live.Name)
		return nil
	}
	patch, err := deviceStatusPatch(&status)
	if err != nil {
		return fmt.Errorf("encode status of device %s: %w", live.Name, err)
	}
	err = r.limiter.Do(ctx, func(ctx context.Context) error {
		return r.client.Status().Patch(ctx, live.DeepCopy(), client.RawPatch(types.MergePatchType, patch), client.FieldOwner(v1alpha1.ManagerOperator))
	})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("patch status of device %s: %w", live.Name, err)
	}
	r.announceDevice(live, &status)
	return nil
}

func anyMap(m map[string]string) map[string]any {
	out := make(map[string]any, len(m))
	for key, value := range m {
		out[key] = value
	}
	return out
}

// deviceStatusPatch is a merge patch of the whole status: a field that is
// empty is null, so that nothing old stays.
func deviceStatusPatch(s *v1alpha1.DeviceStatus) ([]byte, error) {
	inventory := map[string]any{}
	for _, field := range inventoryFields {
		inventory[field] = nil
	}
	data, err := json.Marshal(s.Inventory)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &inventory); err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{"status": map[string]any{
		"lastHeartbeat": s.LastHeartbeat, "inventory": inventory, "conditions": s.Conditions, "signingKeys": s.SigningKeys,
	}})
}

// inventoryFields are the JSON names of v1alpha1.Inventory.
var inventoryFields = []string{
	"hostname", "os", "kernel", "architecture", "model", "cpus", "memoryBytes", "diskBytes",
	"agentVersion", "podmanVersion", "bootId", "cgroupsVersion", "containerEngine",
}
