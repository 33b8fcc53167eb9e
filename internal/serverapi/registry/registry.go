// Package registry remembers which machine a device id was given to, and which
// ids were revoked. The record is the Device objects in the Kubernetes API;
// this package keeps a copy of it in memory, for who asks at every connection.
// It does not know whether a device is there, nor what it runs.
package registry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// ErrOtherMachine says that an id belongs to another machine.
var ErrOtherMachine = errors.New("id is registered from another machine")

// ErrUnknown says that an id is not registered.
var ErrUnknown = errors.New("id is not registered")

// ErrLeaving says that the device of an id is being off-boarded.
var ErrLeaving = errors.New("device is being off-boarded")

// Entry is one registered id.
type Entry struct {
	Device     string
	MachineID  string // a name from internal/machineid
	SealingKey string // X25519 public key in base64; "" when the device has none
	Subject    string // its user at the issuer; "" when none is known
	Enrolled   time.Time
	Revoked    time.Time // zero: it is not
	// SigningKeys are the ids of the keys that the device says it trusts.
	SigningKeys []string
}

// Registry is safe for concurrent use, and by several processes: who changes an
// id that somebody else just changed, begins anew.
type Registry struct {
	client   client.WithWatch
	informer cache.SharedIndexInformer

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each change of the copy
}

// NewClient is a client for Open.
func NewClient(config *rest.Config) (client.WithWatch, error) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("registry: register API types: %w", err)
	}
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	return c, nil
}

// Open begins to follow the Devices, until ctx ends. Until the first copy is
// there, which Synced tells, nobody is let in.
func Open(ctx context.Context, c client.WithWatch) (*Registry, error) {
	r := &Registry{client: c, changed: make(chan struct{})}
	r.informer = cache.NewSharedIndexInformer(cache.ToListWatcherWithWatchListSemantics(r.listWatch(), c), &v1alpha1.Device{}, 0, cache.Indexers{bySubject: subjectsOf})
	if err := r.informer.SetTransform(slim); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	if _, err := r.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { r.wake() },
		UpdateFunc: func(any, any) { r.wake() },
		DeleteFunc: func(any) { r.wake() },
	}); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	go r.informer.RunWithContext(ctx)
	return r, nil
}

// Synced waits until the copy is complete.
func (r *Registry) Synced(ctx context.Context) error {
	if !cache.WaitForCacheSync(ctx.Done(), r.informer.HasSynced) {
		return fmt.Errorf("the list of devices is not complete: %w", context.Cause(ctx))
	}
	return nil
}

// Get gives the entry of an id; ok is false when there is none.
func (r *Registry) Get(device string) (e Entry, ok bool) {
	d := r.cached(device)
	if d == nil || d.Spec.Enrolled == nil {
		return Entry{}, false
	}
	return entryOf(d), true
}

// Allowed lists the devices that may connect, in no order.
func (r *Registry) Allowed() []Entry {
	var out []Entry
	for _, o := range r.informer.GetStore().List() {
		if d := deviceOf(o); d != nil && d.MayConnect() {
			out = append(out, entryOf(d))
		}
	}
	return out
}

// Denied is for the auth callout: only devices that are enrolled, not revoked
// and not being off-boarded may connect.
func (r *Registry) Denied(device string) bool {
	d := r.cached(device)
	return d == nil || !r.informer.HasSynced() || !d.MayConnect()
}

// bySubject is the index of devices by their users at the issuer.
const bySubject = "subject"

func subjectsOf(o any) ([]string, error) {
	if d := deviceOf(o); d != nil && d.Spec.Subject != "" {
		return []string{d.Spec.Subject}, nil
	}
	return nil, nil
}

// BySubject gives the device that signs in at the issuer as a user, for the
// auth callout. ok is false when it is none's, or that of several: nobody can
// then say whose token it is.
func (r *Registry) BySubject(subject string) (device string, ok bool) {
	if subject == "" {
		return "", false
	}
	found, err := r.informer.GetIndexer().ByIndex(bySubject, subject)
	if err != nil || len(found) != 1 {
		return "", false
	}
	d := deviceOf(found[0])
	return d.Name, true
}

// Subject is the user that a device is registered to sign in as; "" when none is.
func (r *Registry) Subject(device string) string {
	if d := r.cached(device); d != nil {
		return d.Spec.Subject
	}
	return ""
}

func (r *Registry) cached(device string) *v1alpha1.Device {
	o, ok, err := r.informer.GetStore().GetByKey(device)
	if err != nil || !ok {
		return nil
	}
	return deviceOf(o)
}

func (r *Registry) wake() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.changed)
	r.changed = make(chan struct{})
}

// await waits until the copy of a device is as it should be.
func (r *Registry) await(ctx context.Context, device string, good func(*v1alpha1.Device) bool) error {
	for {
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()
		if good(r.cached(device)) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (r *Registry) listWatch() *cache.ListWatch {
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			list := &v1alpha1.DeviceList{}
			return list, r.client.List(ctx, list, &client.ListOptions{Raw: &o})
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return r.client.Watch(ctx, &v1alpha1.DeviceList{}, &client.ListOptions{Raw: &o})
		},
	}
}

// slim drops what the registry does not ask about: most of an object.
func slim(o any) (any, error) {
	d, ok := o.(*v1alpha1.Device)
	if !ok {
		return o, nil
	}
	return &v1alpha1.Device{
		ObjectMeta: metav1.ObjectMeta{Name: d.Name, UID: d.UID, ResourceVersion: d.ResourceVersion, DeletionTimestamp: d.DeletionTimestamp},
		Spec:       d.Spec,
		Status:     v1alpha1.DeviceStatus{SigningKeys: d.Status.SigningKeys},
	}, nil
}

// deviceOf also takes what an informer has of an object whose end it missed.
func deviceOf(o any) *v1alpha1.Device {
	if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = gone.Obj
	}
	d, _ := o.(*v1alpha1.Device)
	return d
}

func entryOf(d *v1alpha1.Device) Entry {
	e := Entry{Device: d.Name, MachineID: d.Spec.MachineID, SealingKey: d.Spec.SealingKey, Subject: d.Spec.Subject, SigningKeys: d.Status.SigningKeys}
	if d.Spec.Enrolled != nil {
		e.Enrolled = d.Spec.Enrolled.UTC()
	}
	if d.Spec.Revoked != nil {
		e.Revoked = d.Spec.Revoked.UTC()
	}
	return e
}
