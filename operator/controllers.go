package operator

import (
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
	"github.com/nationtech/fleetctl/operator/throttle"
)

// Workers of the controllers that wait for a server.
const (
	apiWorkers   = 8
	storeWorkers = 16
)

// Backoff of work that failed.
const (
	minBackoff = 50 * time.Millisecond
	maxBackoff = 30 * time.Second
)

func newCore(mgr manager.Manager, watcher client.WithWatch, o Options) *core {
	counters := newCounters()
	desired := &inlet[string]{}
	store := countedStore{o.Store, counters.writes}
	limiter := throttle.New(isOverload, time.Now)
	return &core{
		client: mgr.GetClient(), store: store, links: o.Links, identities: o.Identities, recorder: mgr.GetEventRecorder(v1alpha1.ManagerOperator),
		log: o.Log, now: time.Now, timing: o.Timing,
		model:      newModel(),
		writer:     newWriter(store, o.Signer, time.Now, o.Log),
		materials:  newMaterials(mgr.GetAPIReader(), watcher, o.Log, desired.add),
		registry:   newRegistry(o.Timing),
		departures: newDepartures(),
		limiter:    limiter,
		events:     newEventLimits(),
		counters:   counters,

		deployments: &inlet[reconcile.Request]{},
		summaries:   &inlet[types.NamespacedName]{},
		rollouts:    &inlet[types.NamespacedName]{},
		desired:     desired,
		devices:     &inlet[string]{},
		patient:     newDrip(func() int { return int(float64(o.Timing.PatientRate) * limiter.Ease()) }),
		loaded:      make(chan struct{}),
	}
}

// isOverload recognises an API server that has too much to do.
func isOverload(err error) bool {
	return apierrors.IsTooManyRequests(err) || apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err) || apierrors.IsServiceUnavailable(err)
}

func (c *core) addControllers(mgr manager.Manager) error {
	err := builder.ControllerManagedBy(mgr).Named("deployment").
		For(&v1alpha1.Deployment{}, builder.WithPredicates(c.deploymentEvents())).
		WatchesRawSource(c.deployments).
		WithOptions(controller.Options{MaxConcurrentReconciles: apiWorkers, RateLimiter: backoff[reconcile.Request]()}).
		Complete(deploymentReconciler{c})
	if err != nil {
		return err
	}
	err = builder.ControllerManagedBy(mgr).Named("device").
		For(&v1alpha1.Device{}).
		WithOptions(controller.Options{MaxConcurrentReconciles: apiWorkers, RateLimiter: backoff[reconcile.Request]()}).
		Complete(deviceReconciler{c})
	if err != nil {
		return err
	}
	summaries := newSummaryReconciler(c)
	for _, add := range []func() error{
		func() error { return addInternal(mgr, "summary", apiWorkers, c.summaries, summaries) },
		func() error { return c.addRollouts(mgr) },
		func() error { return addInternal(mgr, "desired", storeWorkers, c.desired, desiredReconciler{c}) },
		func() error {
			return addInternal(mgr, "registration", apiWorkers, c.devices, registrationReconciler{c})
		},
	} {
		if err := add(); err != nil {
			return err
		}
	}
	return mgr.Add(&intake{core: c, again: make(chan struct{}, 1)})
}

// addInternal adds a controller that is fed by an inlet.
func addInternal[K comparable](mgr manager.Manager, name string, workers int, from *inlet[K], to reconcile.TypedReconciler[K]) error {
	ctl, err := controller.NewTyped(name, mgr, controller.TypedOptions[K]{
		Reconciler: to, MaxConcurrentReconciles: workers, RateLimiter: backoff[K](),
	})
	if err != nil {
		return err
	}
	return ctl.Watch(from)
}

// backoff is per key. What all keys share is limited where the call is made.
func backoff[K comparable]() workqueue.TypedRateLimiter[K] {
	return workqueue.NewTypedItemExponentialFailureRateLimiter[K](minBackoff, maxBackoff)
}

// deploymentEvents lets a change of status pass the reconciler by, and brings
// it to the controller that writes it, which so sees that its cache caught up.
func (c *core) deploymentEvents() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		if e.ObjectOld.GetGeneration() == e.ObjectNew.GetGeneration() {
			c.summaries.add(client.ObjectKeyFromObject(e.ObjectNew))
		}
		return e.ObjectOld.GetGeneration() != e.ObjectNew.GetGeneration() || e.ObjectNew.GetDeletionTimestamp() != nil ||
			len(e.ObjectOld.GetFinalizers()) != len(e.ObjectNew.GetFinalizers())
	}}
}
