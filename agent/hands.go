package agent

import (
	"context"
	"encoding/json"
	"io"

	"github.com/nationtech/fleetctl/internal/wire"
)

// Hands is what an Engine can do by hand, for a person at the control plane.
// Its errors may be *wire.ReplyError, whose code the person is told.
type Hands interface {
	// Restart returns when the containers are up again.
	Restart(ctx context.Context, t wire.Target) error
	// Inspect gives a JSON array.
	Inspect(ctx context.Context, t wire.Target) ([]byte, error)
	// Logs writes output frames until there are no more, or ctx ends.
	Logs(ctx context.Context, r wire.LogsRequest, out io.Writer) error
}

// handHandlers are the verbs that an Engine with Hands makes possible.
func (a *Agent) handHandlers() map[wire.Verb]handler {
	hands, able := a.cfg.Engine.(Hands)
	if !able {
		return nil
	}
	return map[wire.Verb]handler{
		wire.VerbRestart: on(func(ctx context.Context, t wire.Target, _ io.Writer) error {
			a.log.Info("restarting by hand", "op", "restart", "deployment", t.Deployment, "service", t.Service)
			return hands.Restart(ctx, t)
		}),
		wire.VerbInspect: on(func(ctx context.Context, t wire.Target, out io.Writer) error {
			data, err := hands.Inspect(ctx, t)
			if err != nil {
				return err
			}
			_, err = out.Write(data)
			return err
		}),
		wire.VerbLogs: on(hands.Logs),
	}
}

// on makes a handler of one that takes a body.
func on[T interface{ Validate() error }](do func(context.Context, T, io.Writer) error) handler {
	return func(ctx context.Context, c wire.Command, out io.Writer) error {
		var body T
		err := json.Unmarshal(c.Body, &body)
		if err == nil {
			err = body.Validate()
		}
		if err != nil {
			return &wire.ReplyError{Code: wire.ReplyBadRequest, Message: wire.ClipMessage(err.Error())}
		}
		return do(ctx, body, out)
	}
}

// Stopper is an Engine that keeps services stopped.
type Stopper interface {
	// Stop returns when they are stopped. They stay so until Start.
	Stop(ctx context.Context, t wire.Target) error
	// Start returns when they are up.
	Start(ctx context.Context, t wire.Target) error
}

// stopHandlers are the verbs that a Stopper makes possible.
func (a *Agent) stopHandlers() map[wire.Verb]handler {
	engine, able := a.cfg.Engine.(Stopper)
	if !able {
		return nil
	}
	by := func(verb wire.Verb, do func(context.Context, wire.Target) error) handler {
		return on(func(ctx context.Context, t wire.Target, _ io.Writer) error {
			a.log.Info("by hand", "op", verb, "deployment", t.Deployment, "service", t.Service)
			return do(ctx, t)
		})
	}
	return map[wire.Verb]handler{
		wire.VerbStop:  by(wire.VerbStop, engine.Stop),
		wire.VerbStart: by(wire.VerbStart, engine.Start),
	}
}
