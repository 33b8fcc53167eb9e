package parts

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/nationtech/fleetctl/internal/broker/accounts"
	"github.com/nationtech/fleetctl/internal/broker/presence"
	"github.com/nationtech/fleetctl/internal/callout"
	"github.com/nationtech/fleetctl/internal/identity/verify"
	"github.com/nationtech/fleetctl/internal/serverapi/registry"
	"github.com/nationtech/fleetctl/server/internal/supervise"
)

// Names of the keys that a callout has beside that of its connection.
const (
	KeyIssuer = "issuer" // signs its decisions
	KeyXKey   = "xkey"   // requests are encrypted to it
)

// Callout is the configuration of a callout. Several share the load.
type Callout struct {
	Access
	FleetKeyFile string // devices' passwords come from it; empty: there are none
	People       People // whose tokens are taken; without an issuer there are none
	DeviceClaim  string // of a token, that names the device
	DevicePrefix string // what precedes the device's id in it
}

// Validate reports all faults at once.
func (c *Callout) Validate() error {
	errs := append(c.faults(), c.People.faults()...)
	if c.FleetKeyFile == "" && c.People.Issuer == "" {
		errs = append(errs, errors.New("nobody could log in: --issuer or --fleet-key is needed"))
	}
	return wrong("callout", errs)
}

// Run decides who may connect to NATS until ctx ends.
func (c *Callout) Run(ctx context.Context, ready func()) error {
	if err := c.Validate(); err != nil {
		return err
	}
	return run(ctx, "callout", &c.Access, ready, func(p *part) []step {
		o := &calloutPart{part: p, cfg: c}
		return []step{{"keys", o.loadKeys}, {"device registry", o.follow}, {"issuer's keys", o.trust}, {"NATS", o.connectCallout},
			{"auth callout", o.answer}, {"NATS for presence", o.connectPresence}, {"presence", o.watch}}
	})
}

type calloutPart struct {
	*part
	cfg          *Callout
	issuer, xkey nkeys.KeyPair
	fleetKey     []byte
	tokens       *verify.Verifier
	devices      *registry.Registry
	conn, system *nats.Conn
	guard        *presence.Guard
}

func (o *calloutPart) loadKeys(context.Context) (_ supervise.Part, err error) {
	if o.issuer, err = o.key(KeyIssuer); err != nil {
		return nil, err
	}
	if o.xkey, err = o.key(KeyXKey); err != nil {
		return nil, err
	}
	o.fleetKey, err = readFleetKey(o.cfg.FleetKeyFile)
	return nil, err
}

// readFleetKey gives nil for no file.
func readFleetKey(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	key, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read fleet key: %w", err)
	}
	return key, callout.CheckFleetKey(key)
}

func (o *calloutPart) follow(ctx context.Context) (held supervise.Part, err error) {
	o.devices, held, err = o.registry(ctx)
	return held, err
}

func (o *calloutPart) trust(context.Context) (held supervise.Part, err error) {
	if o.cfg.People.Issuer == "" {
		return nil, nil
	}
	o.tokens, held, err = o.cfg.People.verifier(o.cfg.People.ProjectID, o.cfg.DeviceClaim)
	return held, err
}

func (o *calloutPart) connectCallout(ctx context.Context) (held supervise.Part, err error) {
	o.conn, held, err = o.nats(ctx, accounts.RoleCallout)
	return held, err
}

func (o *calloutPart) connectPresence(ctx context.Context) (held supervise.Part, err error) {
	o.system, held, err = o.nats(ctx, accounts.RoleWarden)
	return held, err
}

func (o *calloutPart) answer(context.Context) (supervise.Part, error) {
	o.guard = presence.NewGuard(presence.DefaultLimits())
	return lasting(func(ctx context.Context) error {
		_, err := callout.Start(ctx, callout.Config{
			Conn: o.conn, Issuer: o.issuer, XKey: o.xkey,
			Tokens: o.tokens, DevicePrefix: o.cfg.DevicePrefix, FleetKey: o.fleetKey,
			Device: o.devices.BySubject, Subject: o.devices.Subject, Denied: o.devices.Denied, Held: o.guard.Held, Metrics: o.metrics, Log: o.Log.With("component", "callout"),
		})
		return err
	})
}

// watch ends the connections of devices that may not connect any more, or that
// flood the servers, also while the HTTPS API is down. Each callout sees the
// connections of all servers, so that each knows whom to keep out.
func (o *calloutPart) watch(context.Context) (supervise.Part, error) {
	log := o.Log.With("component", "presence")
	return lasting(func(ctx context.Context) error {
		tracker, err := presence.Start(ctx, o.system, log, presence.Options{Denied: o.devices.Denied, Settle: registrySettles})
		if err != nil {
			return err
		}
		if err := o.metrics.Register(tracker); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
		go o.guard.Watch(ctx, o.system, tracker, log, nil)
		return o.devices.Enforce(ctx, tracker, log)
	})
}
