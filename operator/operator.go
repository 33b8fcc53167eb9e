// Package operator runs the fleet's controllers: Deployments and Devices in the
// Kubernetes API become desired state in the key-value store, and what devices
// report becomes status. The API is the truth; the store can be rebuilt from it
// at any time. It owns when what is written, and neither the payloads
// (internal/wire) nor the buckets (internal/broker).
package operator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/nationtech/fleetctl/internal/broker/presence"
	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// Options of an operator. Store, Signer and Log are needed.
type Options struct {
	Store  Store
	Signer Signer
	Log    *slog.Logger

	// Links are the devices' connections; nil where nobody can tell.
	Links Links
	// Identities is the issuer that devices have keys at; nil when they have none.
	Identities Identities
	// LeaderElection lets several operators share the work of one: only the
	// leader writes. Nil when there is only ever one.
	LeaderElection *LeaderElection
	// Timing is for tests; the zero value means DefaultTiming.
	Timing Timing
}

// Signer signs manifests. The key itself stays with whoever keeps it.
type Signer interface {
	// Seal gives v signed, as wire.Seal does.
	Seal(kind wire.Kind, v any) ([]byte, error)
	// Pinned are the keys that devices trust.
	Pinned() wire.PinnedKeys
	// Epoch changes with how manifests are signed: those of another epoch are
	// written anew. EpochOf is that of a stored one.
	Epoch() string
	EpochOf(sealed []byte) string
	// Changed is closed when the epoch changes.
	Changed() <-chan struct{}
}

// Links are the connections of devices; *presence.Tracker in production.
type Links interface {
	// Connection gives a device's link; ok is false when it has none.
	Connection(device string) (c presence.Connection, ok bool)
	// Complete says whether that can be relied on.
	Complete() bool
	// Watch calls changed with each device whose link changed, and with ""
	// when all may have, until ctx ends.
	Watch(ctx context.Context, changed func(device string))
	// Disconnect ends every connection of a device; that there is none is
	// no error.
	Disconnect(ctx context.Context, device string) error
}

// Identities is what devices log in with, at their issuer.
type Identities interface {
	// RemoveDevice removes the machine user of a device with its keys; that
	// there is none is no error.
	RemoveDevice(ctx context.Context, device string) error
}

// LeaderElection is where the operators agree on their leader.
type LeaderElection struct {
	Namespace string // of the Lease; made when it is not there
	Identity  string // of this operator; unique among them
}

// leaseName is the name of the Lease.
const leaseName = "fleet-operator"

// Timing is how long things take.
type Timing struct {
	HeartbeatTimeout time.Duration // silence after which a device is not ready
	HeartbeatRenewal time.Duration // between two writes of lastHeartbeat
	PresenceTick     time.Duration // between two looks for silent devices
	Coalesce         time.Duration // what a device says within it becomes one write of its status
	PatientRate      int           // writes a second of what may wait, for the whole fleet
	StatusInterval   time.Duration // between two status writes of a Deployment that changes all the time
	AuditInterval    time.Duration // between two looks whether the store has what it should
	LoadRetry        time.Duration
	OffboardGrace    time.Duration // how long a deleted device may take to hear that it runs nothing
	OffboardPoll     time.Duration
	LeaseDuration    time.Duration // after which another operator takes over from one that died
}

// DefaultTiming is three missed heartbeats for a device that died.
func DefaultTiming() Timing {
	return Timing{
		HeartbeatTimeout: 3 * wire.HeartbeatInterval,
		HeartbeatRenewal: 10 * time.Minute,
		PresenceTick:     5 * time.Second,
		Coalesce:         500 * time.Millisecond,
		PatientRate:      50,
		StatusInterval:   time.Second,
		AuditInterval:    time.Minute,
		LoadRetry:        2 * time.Second,
		OffboardGrace:    4 * time.Second,
		OffboardPoll:     500 * time.Millisecond,
		LeaseDuration:    15 * time.Second,
	}
}

// renewDeadline is how long a leader tries to renew its Lease before it gives up.
func (t Timing) renewDeadline() time.Duration { return t.LeaseDuration * 2 / 3 }

// Operator is a set of controllers, ready to run.
type Operator struct {
	manager  manager.Manager
	config   *rest.Config
	election *LeaderElection
	core     *core
}

// New prepares an operator. Nothing is sent before Run; the CRDs have to be
// installed by then.
func New(restConfig *rest.Config, o Options) (*Operator, error) {
	if o.Store == nil || o.Signer == nil || o.Log == nil {
		return nil, errors.New("operator: a store, a signer and a logger are needed")
	}
	if o.Timing == (Timing{}) {
		o.Timing = DefaultTiming()
	}
	// controller-runtime logs through a global of its own beside the manager's.
	logf.SetLogger(libraryLog(o.Log))
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, corev1.AddToScheme, coordinationv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("operator: register API types: %w", err)
		}
	}
	unlimited := rest.CopyConfig(restConfig)
	unlimited.QPS = -1 // the limiter that adapts does it better
	options := managerOptions(scheme, o)
	if o.LeaderElection != nil {
		elected, err := elect(restConfig, o.LeaderElection, o.Timing)
		if err != nil {
			return nil, fmt.Errorf("operator: elect a leader: %w", err)
		}
		options.LeaderElectionResourceLockInterface = elected
		unlimited.Wrap(elected.leads.fenced)
		o.Store = fencedStore{o.Store, elected.leads}
	}
	mgr, err := manager.New(unlimited, options)
	if err != nil {
		return nil, fmt.Errorf("operator: %w", err)
	}
	watcher, err := client.NewWithWatch(unlimited, client.Options{Scheme: scheme, Mapper: mgr.GetRESTMapper(), HTTPClient: mgr.GetHTTPClient()})
	if err != nil {
		return nil, fmt.Errorf("operator: %w", err)
	}
	op := &Operator{manager: mgr, config: restConfig, election: o.LeaderElection, core: newCore(mgr, watcher, o)}
	if err := op.core.addControllers(mgr); err != nil {
		return nil, fmt.Errorf("operator: %w", err)
	}
	return op, nil
}

func managerOptions(scheme *runtime.Scheme, o Options) manager.Options {
	anyName := true // several operators in one process, as in tests, use the same names
	out := manager.Options{
		Scheme:                 scheme,
		Logger:                 libraryLog(o.Log),
		Metrics:                metricsserver.Options{BindAddress: "0"}, // who runs us serves Collector
		HealthProbeBindAddress: "0",
		Controller:             config.Controller{SkipNameValidation: &anyName},
		Cache:                  cache.Options{DefaultTransform: withoutBookkeeping},
	}
	if e := o.LeaderElection; e != nil {
		lease, renew, retry := o.Timing.LeaseDuration, o.Timing.renewDeadline(), o.Timing.LeaseDuration/8
		out.LeaderElection = true
		out.LeaderElectionID = leaseName
		out.LeaderElectionNamespace = e.Namespace
		out.LeaderElectionReleaseOnCancel = true
		out.LeaseDuration, out.RenewDeadline, out.RetryPeriod = &lease, &renew, &retry
	}
	return out
}

// Run runs the operator until ctx ends, which is no error, or until it lost
// its leadership or its store, which is one. An operator runs once.
func (op *Operator) Run(ctx context.Context) error {
	if op.election != nil {
		if err := op.ensureNamespace(ctx, op.election.Namespace); err != nil {
			return err
		}
	}
	if err := op.manager.Start(ctx); err != nil {
		return fmt.Errorf("run operator: %w", err)
	}
	return nil
}

// Elected is closed once this operator is the one that works; at once when it
// is alone.
func (op *Operator) Elected() <-chan struct{} { return op.manager.Elected() }

// Ready is closed once this operator leads and its picture is complete.
func (op *Operator) Ready() <-chan struct{} { return op.core.loaded }

func (op *Operator) ensureNamespace(ctx context.Context, name string) error {
	c, err := client.New(op.config, client.Options{Scheme: op.manager.GetScheme()})
	if err != nil {
		return fmt.Errorf("make namespace %s: %w", name, err)
	}
	err = c.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	// Where we may not make one, it has been made for us.
	if err != nil && !apierrors.IsAlreadyExists(err) && !apierrors.IsForbidden(err) {
		return fmt.Errorf("make namespace %s: %w", name, err)
	}
	return nil
}
