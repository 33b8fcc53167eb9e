// Package registrytest is a registry without a Kubernetes API, for tests: its
// Devices are in a client of controller-runtime's that keeps them in memory and
// checks resource versions as the API does.
package registrytest

import (
	"context"
	"errors"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/nationtech/fleetctl/internal/serverapi/registry"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// Kube is an API in memory.
type Kube struct {
	client.WithWatch

	mu      sync.Mutex
	watched chan struct{} // closed and replaced when a watch begins
}

// NewKube is an API with nothing in it.
func NewKube() *Kube {
	scheme := runtime.NewScheme()
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	return &Kube{
		WithWatch: fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1alpha1.Device{}).Build(),
		watched:   make(chan struct{}),
	}
}

// Watch implements client.WithWatch.
func (k *Kube) Watch(ctx context.Context, list client.ObjectList, opts ...client.ListOption) (watch.Interface, error) {
	w, err := k.WithWatch.Watch(ctx, list, opts...)
	k.mu.Lock()
	defer k.mu.Unlock()
	close(k.watched)
	k.watched = make(chan struct{})
	return w, err
}

// IsWatchListSemanticsUnSupported tells client-go to list, then watch.
func (*Kube) IsWatchListSemanticsUnSupported() bool { return true }

// Open is a registry whose copy is complete. It waits for the watch as well:
// this API forgets what happens between a list and a watch.
func (k *Kube) Open(ctx context.Context) (*registry.Registry, error) {
	k.mu.Lock()
	watched := k.watched
	k.mu.Unlock()
	r, err := registry.Open(ctx, k)
	if err != nil {
		return nil, err
	}
	select {
	case <-watched:
		return r, r.Synced(ctx)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Unreachable is the API as somebody sees it who does not get there.
func (k *Kube) Unreachable() client.WithWatch { return cutOff{k} }

type cutOff struct{ *Kube }

func (cutOff) List(context.Context, client.ObjectList, ...client.ListOption) error {
	return errors.New("no route to host")
}
