package parts

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"k8s.io/client-go/rest"

	"github.com/nationtech/fleetctl/internal/broker"
	"github.com/nationtech/fleetctl/internal/broker/accounts"
	"github.com/nationtech/fleetctl/internal/broker/kv"
	"github.com/nationtech/fleetctl/internal/broker/presence"
	"github.com/nationtech/fleetctl/internal/signing"
	"github.com/nationtech/fleetctl/operator"
	"github.com/nationtech/fleetctl/server/internal/supervise"
)

// Operator is the configuration of an operator. Several share the work of one.
type Operator struct {
	Access
	SigningDir string // holds the keys that manifests are signed with
	Namespace  string // of the Lease that the operators agree on
	Identity   string // of this one among them
	Devices    int    // the most devices there will be; buckets are sized for them
	Replicas   int    // of the bucket of desired state; those of reports have one
}

// Validate reports all faults at once.
func (c *Operator) Validate() error {
	errs := c.faults()
	if c.SigningDir == "" {
		errs = append(errs, errors.New("--signing-dir is needed"))
	}
	if c.Namespace == "" {
		errs = append(errs, errors.New("--namespace is needed"))
	}
	if c.Devices < 1 {
		errs = append(errs, fmt.Errorf("--devices %d: at least 1", c.Devices))
	}
	if c.Replicas != 1 && c.Replicas != 3 && c.Replicas != 5 {
		errs = append(errs, fmt.Errorf("--replicas %d: 1, 3 or 5", c.Replicas))
	}
	return wrong("operator", errs)
}

// Run runs an operator until ctx ends, or until it lost its leadership, which
// is an error: another process has to take its place.
func (c *Operator) Run(ctx context.Context, ready func()) error {
	if err := c.Validate(); err != nil {
		return err
	}
	return run(ctx, "operator", &c.Access, ready, func(p *part) []step {
		o := &operatorPart{part: p, cfg: c}
		return []step{{"keys", o.loadKeys}, {"NATS for buckets", o.connectBuckets}, {"NATS", o.connectStore},
			{"NATS for presence", o.connectLinks}, {"presence", o.watch}, {"operator", o.operate}, {"buckets", o.keepBuckets}}
	})
}

type operatorPart struct {
	*part
	cfg     *Operator
	config  *rest.Config
	signer  *signing.Signer
	buckets *nats.Conn
	store   *nats.Conn
	system  *nats.Conn
	links   *presence.Tracker
	leading <-chan struct{} // closed once this operator is the one that works
}

func (o *operatorPart) loadKeys(context.Context) (_ supervise.Part, err error) {
	if o.config, err = o.restConfig(); err != nil {
		return nil, err
	}
	if o.signer, err = signing.Load(o.cfg.SigningDir); err != nil {
		return nil, err
	}
	return o.followKeys(o.signer), nil
}

func (o *operatorPart) connectBuckets(ctx context.Context) (held supervise.Part, err error) {
	o.buckets, held, err = o.nats(ctx, accounts.RoleBuckets)
	return held, err
}

func (o *operatorPart) connectStore(ctx context.Context) (held supervise.Part, err error) {
	o.store, held, err = o.nats(ctx, accounts.RoleOperator)
	return held, err
}

func (o *operatorPart) connectLinks(ctx context.Context) (held supervise.Part, err error) {
	o.system, held, err = o.nats(ctx, accounts.RoleWatcher)
	return held, err
}

func (o *operatorPart) watch(context.Context) (supervise.Part, error) {
	return lasting(func(ctx context.Context) (err error) {
		if o.links, err = presence.Start(ctx, o.system, o.Log.With("component", "presence"), presence.Options{}); err != nil {
			return err
		}
		return o.metrics.Register(o.links)
	})
}

const (
	bucketsEvery   = 30 * time.Second // a look whether the buckets are as they have to be
	bucketsTimeout = 10 * time.Second
	bucketsRetry   = 2 * time.Second
)

// keepBuckets makes the buckets, and makes them again when somebody wiped
// JetStream: the operator fills them from the Kubernetes API. One operator does,
// the one that leads: of two that make the same stream at once, JetStream may
// leave one without an answer.
func (o *operatorPart) keepBuckets(context.Context) (supervise.Part, error) {
	js, err := jetstream.New(o.buckets)
	if err != nil {
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	if err := o.metrics.Register(broker.BucketCollector(js)); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	log := o.Log.With("component", "buckets")
	// See docs/decisions/0008: a device can stop a bucket of reports that has copies.
	sizing := broker.Sizing{Devices: o.cfg.Devices, Replicas: o.cfg.Replicas, ReportReplicas: 1}
	ensure := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, bucketsTimeout)
		defer cancel()
		return broker.EnsureBuckets(ctx, js, sizing)
	}
	return supervise.Loop(func(ctx context.Context) error {
		select {
		case <-o.leading:
		case <-ctx.Done():
			return ctx.Err()
		}
		for good := false; ; {
			err := ensure(ctx)
			wait := bucketsEvery
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err != nil:
				// Without a majority of NATS servers there is nothing to do but wait.
				good, wait = false, bucketsRetry
				log.Warn("the buckets are not as they have to be", "error", err)
			case !good:
				good = true
				log.Info("the buckets are there", "replicas", sizing.Replicas, "devices", sizing.Devices)
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(wait):
			}
		}
	}), nil
}

func (o *operatorPart) operate(context.Context) (supervise.Part, error) {
	store, err := kv.Open(o.store)
	if err != nil {
		return nil, err
	}
	op, err := operator.New(o.config, operator.Options{
		Store:          store,
		Signer:         o.signer,
		Links:          o.links,
		Log:            o.Log.With("component", "operator"),
		LeaderElection: &operator.LeaderElection{Namespace: o.cfg.Namespace, Identity: o.cfg.Identity},
	})
	if err != nil {
		return nil, err
	}
	o.leading = op.Elected()
	if err := o.metrics.Register(op.Collector()); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	// One that stands by is ready too: it has nothing else to do.
	o.status.add("picture of the fleet", func() error {
		if closed(op.Elected()) && !closed(op.Ready()) {
			return errors.New("not complete yet")
		}
		return nil
	})
	return supervise.Loop(op.Run), nil
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
