package parts

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/nationtech/fleetctl/server/internal/metrics"
	"github.com/nationtech/fleetctl/server/internal/supervise"
)

// part is a part while it starts and runs.
type part struct {
	*Access
	*supervise.Supervisor
	status  status
	metrics *prometheus.Registry
}

type step struct {
	name string
	run  func(context.Context) (supervise.Part, error)
}

// run starts the steps in order, calls ready, and runs until ctx ends or one of
// them fails. Health checks are answered from the beginning.
func run(ctx context.Context, name string, a *Access, ready func(), steps func(*part) []step) (err error) {
	p := &part{Access: a, Supervisor: supervise.New(a.Log), metrics: metrics.New(name, a.Version)}
	defer func() { err = errors.Join(err, p.Stop()) }()
	starting, cancel := context.WithTimeoutCause(ctx, a.StartTimeout, fmt.Errorf("not up within %s", a.StartTimeout))
	defer cancel()
	all := append([]step{{"health checks", func(context.Context) (supervise.Part, error) {
		return p.status.serve(a.StatusAddress, metrics.Handler(p.metrics, a.Log), a.Log)
	}}}, steps(p)...)
	for _, s := range all {
		if err := p.Start(starting, s.name, s.run); err != nil {
			if ctx.Err() != nil {
				return fmt.Errorf("interrupted: %w", err)
			}
			return err
		}
	}
	p.status.up.Store(true)
	a.Log.Info("started", "part", name, "version", a.Version)
	ready()
	select {
	case <-ctx.Done():
		a.Log.Info("stopping", "part", name)
		return nil
	case err := <-p.Failed():
		return err
	}
}

// nats connects as role, and makes the connection something to be ready for
// and a metric.
func (p *part) nats(ctx context.Context, role string) (*nats.Conn, supervise.Part, error) {
	conn, err := p.connect(ctx, role)
	if err != nil {
		return nil, nil, err
	}
	p.status.add("NATS as "+role, func() error {
		if !conn.IsConnected() {
			return errors.New("not connected")
		}
		return nil
	})
	if err := metrics.Connection(p.metrics, role, conn); err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, supervise.Held(func(context.Context) error { conn.Close(); return nil }), nil
}

// lasting makes a part of what runs until the context it was started with ends.
func lasting(start func(context.Context) error) (supervise.Part, error) {
	ctx, cancel := context.WithCancel(context.Background())
	if err := start(ctx); err != nil {
		cancel()
		return nil, err
	}
	return supervise.Held(func(context.Context) error {
		cancel()
		return nil
	}), nil
}
