package registry

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

const (
	// attempts at a change that others make at the same time.
	attempts = 8
	// leaveLimit is how long an enrolment waits for the device that had the
	// id before to be off-boarded.
	leaveLimit = 10 * time.Second
	// seenLimit is how long a change may take to come back to us.
	seenLimit = 5 * time.Second
)

// Request is a machine that is to be a device.
type Request struct {
	Device     string
	MachineID  string // a name from internal/machineid
	SealingKey string // see Entry; "" keeps what this machine registered before
	Subject    string // see Entry; "" keeps what this machine registered before
	Replace    bool   // it takes the place of the machine that has the id
}

// Enrolled says whether the id is this machine's and not revoked, without
// changing anything. Its errors are those that Enrol would give.
func (r *Registry) Enrolled(q Request) (bool, error) {
	if err := wire.ValidateDeviceID(q.Device); err != nil {
		return false, err
	}
	d := r.cached(q.Device)
	if d == nil || d.DeletionTimestamp != nil {
		return false, nil
	}
	if err := q.refused(d); err != nil {
		return false, err
	}
	return d.MayConnect() && q.changes(d.Spec, time.Time{}) == nil, nil
}

// Enrol gives the id to a machine and lifts a revocation. An id that another
// machine has is ErrOtherMachine, unless the request replaces it. Of several
// machines that ask for an id at the same time one gets it. When Enrol returns,
// this process lets the device in.
func (r *Registry) Enrol(ctx context.Context, q Request, now time.Time) (Entry, error) {
	if err := wire.ValidateDeviceID(q.Device); err != nil {
		return Entry{}, err
	}
	return r.change(ctx, q.Device, func(d *v1alpha1.Device) (*v1alpha1.DeviceSpec, error) {
		if d == nil {
			return q.changes(v1alpha1.DeviceSpec{}, now), nil
		}
		if err := q.refused(d); err != nil {
			return nil, err
		}
		return q.changes(d.Spec, now), nil
	})
}

// Revoke shuts a device out until it is enrolled again.
func (r *Registry) Revoke(ctx context.Context, device string, now time.Time) (Entry, error) {
	return r.change(ctx, device, func(d *v1alpha1.Device) (*v1alpha1.DeviceSpec, error) {
		switch {
		case d == nil || d.Spec.Enrolled == nil:
			return nil, fmt.Errorf("device %s: %w", device, ErrUnknown)
		case d.Spec.Revoked != nil:
			return nil, nil
		}
		spec := d.Spec
		spec.Revoked = &metav1.Time{Time: now}
		return &spec, nil
	})
}

func (q Request) refused(d *v1alpha1.Device) error {
	if had := d.Spec.MachineID; had == "" || had == q.MachineID || q.Replace {
		return nil
	}
	since := d.CreationTimestamp
	if d.Spec.Enrolled != nil {
		since = *d.Spec.Enrolled
	}
	return fmt.Errorf("device %s: %w since %s", q.Device, ErrOtherMachine, since.UTC().Format(time.DateOnly))
}

// changes gives the registration that follows from the one before; nil when it
// is the same.
func (q Request) changes(before v1alpha1.DeviceSpec, now time.Time) *v1alpha1.DeviceSpec {
	after := before
	if q.SealingKey != "" || before.MachineID != q.MachineID {
		after.SealingKey = q.SealingKey // another machine does not have the key of the one before
	}
	if q.Subject != "" || before.MachineID != q.MachineID {
		after.Subject = q.Subject
	}
	fresh := before.MachineID != q.MachineID || before.Enrolled == nil || before.Revoked != nil
	if !fresh && after.SealingKey == before.SealingKey && after.Subject == before.Subject {
		return nil
	}
	if fresh {
		after.MachineID, after.Enrolled, after.Revoked = q.MachineID, &metav1.Time{Time: now}, nil
	}
	return &after
}

// change brings a device to the spec that next gives for what the API has; nil
// leaves it. d is nil for a device that there is none of.
func (r *Registry) change(ctx context.Context, device string, next func(d *v1alpha1.Device) (*v1alpha1.DeviceSpec, error)) (Entry, error) {
	for range attempts {
		live, err := r.live(ctx, device)
		if err != nil {
			return Entry{}, err
		}
		spec, err := next(live)
		if err != nil {
			return Entry{}, err
		}
		if spec != nil {
			live, err = write(ctx, r.client, device, live, *spec)
		}
		switch {
		case apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err):
			continue // somebody else was first
		case err != nil:
			return Entry{}, fmt.Errorf("register device %s: %w", device, err)
		}
		return entryOf(live), r.seen(ctx, live)
	}
	return Entry{}, fmt.Errorf("register device %s: others change it all the time", device)
}

// live reads past the copy. It waits for a device that is just leaving.
func (r *Registry) live(ctx context.Context, device string) (*v1alpha1.Device, error) {
	for {
		d := &v1alpha1.Device{}
		err := r.client.Get(ctx, client.ObjectKey{Name: device}, d)
		switch {
		case apierrors.IsNotFound(err):
			return nil, nil
		case err != nil:
			return nil, fmt.Errorf("read device %s: %w", device, err)
		case d.DeletionTimestamp == nil:
			return d, nil
		}
		wait, cancel := context.WithTimeoutCause(ctx, leaveLimit, fmt.Errorf("device %s: %w", device, ErrLeaving))
		err = r.await(wait, device, func(c *v1alpha1.Device) bool { return c == nil || c.UID != d.UID })
		cancel()
		if err != nil {
			return nil, err
		}
	}
}

// write makes the Device, or changes live.
func write(ctx context.Context, c client.Client, device string, live *v1alpha1.Device, spec v1alpha1.DeviceSpec) (*v1alpha1.Device, error) {
	if live != nil {
		d := live.DeepCopy() // with its resource version: nobody's change is written over
		d.Spec = spec
		return d, c.Update(ctx, d, client.FieldOwner(v1alpha1.ManagerServer))
	}
	d := &v1alpha1.Device{
		ObjectMeta: metav1.ObjectMeta{
			Name: device, Labels: map[string]string{v1alpha1.LabelDeviceID: device},
			Finalizers: []string{v1alpha1.FinalizerOffboard},
		},
		Spec: spec,
	}
	return d, c.Create(ctx, d, client.FieldOwner(v1alpha1.ManagerServer))
}

// seen waits until our own copy has what was written: who was enrolled connects
// at once, and who was revoked must not.
func (r *Registry) seen(ctx context.Context, d *v1alpha1.Device) error {
	ctx, cancel := context.WithTimeout(ctx, seenLimit)
	defer cancel()
	err := r.await(ctx, d.Name, func(c *v1alpha1.Device) bool {
		if c == nil {
			return false
		}
		order, err := resourceversion.CompareResourceVersion(c.ResourceVersion, d.ResourceVersion)
		return c.UID == d.UID && err == nil && order >= 0
	})
	if err != nil {
		return fmt.Errorf("device %s was registered, which does not show yet: %w", d.Name, err)
	}
	return nil
}
