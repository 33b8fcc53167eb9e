package fleet

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// Watch keeps the store as the Kubernetes API is, until ctx ends. synced is
// called once everything that was there at the start is in the store.
func (s *Store) Watch(ctx context.Context, config *rest.Config, synced func()) error {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return fmt.Errorf("watch the fleet: %w", err)
	}
	slim := cache.ByObject{Transform: withoutBookkeeping}
	informers, err := cache.New(config, cache.Options{Scheme: scheme, ByObject: map[client.Object]cache.ByObject{
		&v1alpha1.Device{}: slim, &v1alpha1.Deployment{}: slim,
	}})
	if err != nil {
		return fmt.Errorf("watch the fleet: %w", err)
	}
	devices := handler(s.PutDevice, func(d *v1alpha1.Device) { s.DeleteDevice(d.Name) })
	deployments := handler(s.PutDeployment, func(d *v1alpha1.Deployment) { s.DeleteDeployment(d.Namespace, d.Name) })
	for _, w := range []struct {
		of   client.Object
		with toolscache.ResourceEventHandler
	}{{&v1alpha1.Device{}, devices}, {&v1alpha1.Deployment{}, deployments}} {
		informer, err := informers.GetInformer(ctx, w.of, cache.BlockUntilSynced(false))
		if err == nil {
			_, err = informer.AddEventHandler(w.with)
		}
		if err != nil {
			return fmt.Errorf("watch the fleet: %w", err)
		}
	}
	go func() {
		if informers.WaitForCacheSync(ctx) {
			synced()
		}
	}()
	if err := informers.Start(ctx); err != nil {
		return fmt.Errorf("watch the fleet: %w", err)
	}
	return nil
}

// withoutBookkeeping drops what nobody looks at here: half of an object's size.
func withoutBookkeeping(o any) (any, error) {
	if object, err := meta.Accessor(o); err == nil {
		object.SetManagedFields(nil)
	}
	return o, nil
}

func handler[T any](put, remove func(*T)) toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) {
			if v, ok := o.(*T); ok {
				put(v)
			}
		},
		UpdateFunc: func(_, o any) {
			if v, ok := o.(*T); ok {
				put(v)
			}
		},
		DeleteFunc: func(o any) {
			// A watch that broke and missed the end of the object.
			if gone, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
				o = gone.Obj
			}
			if v, ok := o.(*T); ok {
				remove(v)
			}
		},
	}
}
