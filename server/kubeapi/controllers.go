package kubeapi

import (
	"context"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/controller-manager/pkg/informerfactory"
	"k8s.io/kubernetes/pkg/controller/clusterroleaggregation"
	"k8s.io/kubernetes/pkg/controller/garbagecollector"
	"k8s.io/kubernetes/pkg/controller/namespace"
)

const (
	namespaceResync   = 5 * time.Minute // upstream's default
	namespaceWorkers  = 4
	collectorWorkers  = 4
	roleWorkers       = 1
	discoveryInterval = 10 * time.Second // how soon owners of a new custom resource count; upstream: 30 s
)

// controllers are the parts of upstream's controller manager without which the
// API is not whole: deleting a namespace empties it, deleting an owner deletes
// what it owns, and the roles "view", "edit" and "admin" have rules at all (they
// are put together from labelled ones, ours among them).
type controllers struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// startControllers needs an API that is ready: the constructors end the process
// when discovery fails.
func startControllers(access *rest.Config, log *slog.Logger) (*controllers, error) {
	access = rest.AddUserAgent(rest.CopyConfig(access), "fleet-controllers")
	client, err := kubernetes.NewForConfig(access)
	if err != nil {
		return nil, err
	}
	objects, err := metadata.NewForConfig(access)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &controllers{cancel: cancel}

	typed := informers.NewSharedInformerFactory(client, 0)
	untyped := metadatainformer.NewSharedInformerFactoryWithOptions(objects, 0, metadatainformer.WithTransform(ownershipOnly))
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client.Discovery()))
	started := make(chan struct{})

	namespaces := namespace.NewNamespaceController(ctx, client, objects,
		client.Discovery().ServerPreferredNamespacedResources,
		typed.Core().V1().Namespaces(), namespaceResync, corev1.FinalizerKubernetes)
	collector, err := garbagecollector.NewGarbageCollector(ctx, client, objects, mapper,
		garbagecollector.DefaultIgnoredResources(), informerfactory.NewInformerFactory(typed, untyped), started)
	if err != nil {
		cancel()
		return nil, err
	}

	roles := clusterroleaggregation.NewClusterRoleAggregation(typed.Rbac().V1().ClusterRoles(), client.RbacV1())

	typed.Start(ctx.Done())
	untyped.Start(ctx.Done())
	close(started)
	c.wg.Go(func() { namespaces.Run(ctx, namespaceWorkers) })
	c.wg.Go(func() { roles.Run(ctx, roleWorkers) })
	c.wg.Go(func() { collector.Run(ctx, collectorWorkers, discoveryInterval) })
	c.wg.Go(func() { collector.Sync(ctx, client.Discovery(), discoveryInterval) })
	c.wg.Go(func() {
		<-ctx.Done()
		typed.Shutdown()
		untyped.Shutdown()
	})
	log.Debug("controllers of namespaces, roles and garbage collection started")
	return c, nil
}

// ownershipOnly leaves of an object what garbage collection asks about: which it
// is, who owns it, and whether it is being deleted.
func ownershipOnly(o any) (any, error) {
	if object, err := meta.Accessor(o); err == nil {
		object.SetManagedFields(nil)
		object.SetLabels(nil)
		object.SetAnnotations(nil)
	}
	return o, nil
}

func (c *controllers) stop() {
	c.cancel()
	c.wg.Wait()
}
