package podman

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nationtech/fleetctl/internal/wire"
)

// handPause is between two looks whether what was asked for is so.
const handPause = 50 * time.Millisecond

// Stop stops the services of t, which stay so, across reboots and new
// versions, until Start.
func (r *Runtime) Stop(ctx context.Context, t wire.Target) error {
	keys, err := r.services(t)
	if err != nil {
		return err
	}
	if err := r.intend(keys, true); err != nil {
		return err
	}
	return r.reach(ctx, keys, func(s wire.ServiceState) (bool, error) { return s.Phase == wire.PhaseStopped, nil })
}

// Start ends what Stop began.
func (r *Runtime) Start(ctx context.Context, t wire.Target) error {
	keys, err := r.services(t)
	if err != nil {
		return err
	}
	if err := r.intend(keys, false); err != nil {
		return err
	}
	return r.reach(ctx, keys, func(s wire.ServiceState) (bool, error) {
		if s.Phase == wire.PhaseFailed {
			return false, errors.New(s.Name + ": " + s.Message)
		}
		return s.Phase == wire.PhaseRunning || s.Phase == wire.PhaseStopped && s.Message != stoppedByHand, nil
	})
}

// stoppedByHand is what is reported of a service after Stop.
const stoppedByHand = wire.StoppedByHand

// services gives the keys that t is about, whether they have a container or
// not.
func (r *Runtime) services(t wire.Target) ([]key, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.deployments[t.Deployment]
	if d == nil {
		return nil, &wire.ReplyError{Code: wire.ReplyNotFound, Message: fmt.Sprintf("deployment %s is not on this device", t.Deployment)}
	}
	if d.fault != nil {
		return nil, &wire.ReplyError{Code: wire.ReplyRefused, Message: wire.ClipMessage(d.fault.Error())}
	}
	var out []key
	for _, k := range d.order {
		if t.Service == "" || k.service == t.Service {
			out = append(out, k)
		}
	}
	if len(out) == 0 {
		return nil, &wire.ReplyError{Code: wire.ReplyNotFound, Message: fmt.Sprintf("deployment %s has no service %s", t.Deployment, t.Service)}
	}
	return out, nil
}

func (r *Runtime) intend(keys []key, stopped bool) error {
	var errs []error
	for _, k := range keys {
		errs = append(errs, r.intents.SetStopped(k.String(), stopped))
	}
	r.hurry()
	return errors.Join(errs...)
}

// reach waits until every service is as done wants.
func (r *Runtime) reach(ctx context.Context, keys []key, done func(wire.ServiceState) (bool, error)) error {
	for {
		all, settling := true, false
		var failed error
		r.mu.Lock()
		for _, k := range keys {
			ok, err := done(r.serviceState(k))
			all = all && ok
			if w := r.workers[k]; w != nil && (w.busy || w.look) {
				settling = true
			}
			failed = errors.Join(failed, err)
		}
		r.mu.Unlock()
		if all {
			return nil
		}
		if failed != nil && !settling {
			return failed
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(handPause):
		}
	}
}
