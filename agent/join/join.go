// Package join is the device's side of joining a fleet without anybody's
// credentials on it: it asks, shows a code, waits for a person's approval, and
// writes what makes the machine a device. The protocol is internal/join's.
package join

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/nationtech/fleetctl/internal/devicekey"
	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/identity/trust"
	protocol "github.com/nationtech/fleetctl/internal/join"
)

// Config says where to ask and as whom.
type Config struct {
	Server      string // https URL of fleet-server's API
	CAPEM       []byte // its authority; nil: as Fingerprint says, or as the code approves
	Fingerprint string // SHA-256 of the authority; "": the code approves it
	DeviceID    string
	MachineID   string // a name of internal/machineid
	Labels      map[string]string
	Facts       protocol.Facts
	Keys        devicekey.Store
	Show        func(Notice) // tells whoever is at the device what to do
	Log         *slog.Logger
	Poll        time.Duration // between two questions; 0 is three seconds
}

// Notice is what a person at the device has to see.
type Notice struct {
	DeviceID string
	Server   string
	Code     string
	Expires  time.Time
	// Fingerprint is of the server's authority, which approving approves too.
	Fingerprint string
}

// Write shows the notice as text.
func (n Notice) Write(w io.Writer) error {
	_, err := fmt.Fprintf(w, `
  This device asks to join the fleet at %s.
  An administrator approves it with:

    fleetctl devices approve %s --code %s

  The code is good until %s.

`, n.Server, n.DeviceID, n.Code, n.Expires.Local().Format(time.TimeOnly))
	return err
}

const defaultPoll = 3 * time.Second

// ErrDenied says that a person turned the device away.
var ErrDenied = errors.New("an administrator denied the request")

// errExpired is a request that the server has no more; it is made anew.
var errExpired = errors.New("the request has expired, or the server was restarted")

// Run asks until the device is approved or denied, or ctx ends, then writes the
// device's files. Requests that expire are made anew, with a new code.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Poll == 0 {
		cfg.Poll = defaultPoll
	}
	keys, err := cfg.Keys.Make(false)
	if err != nil {
		return err
	}
	if keys.Identity != nil {
		return hint.New(fmt.Sprintf("this machine has an identity already, user %s", keys.Identity.UserID),
			"if the fleet does not know it any more, remove "+devicekey.IdentityFile+" and ask again")
	}
	authority, err := cfg.authority(ctx)
	if err != nil {
		return err
	}
	c, err := newClient(cfg.Server, authority.PEM)
	if err != nil {
		return err
	}
	for {
		grant, err := cfg.ask(ctx, c, authority, keys)
		if errors.Is(err, errExpired) {
			cfg.Log.Info("asking again", "op", "join", "reason", err)
			continue
		}
		if err != nil {
			return err
		}
		return cfg.install(grant)
	}
}

// authority is whom the server's certificate has to be from.
func (cfg Config) authority(ctx context.Context) (trust.Authority, error) {
	if cfg.CAPEM != nil {
		return trust.Read(cfg.CAPEM)
	}
	a, err := trust.Ask(ctx, cfg.Server)
	if err != nil {
		return a, err
	}
	if cfg.Fingerprint != "" && !a.Is(cfg.Fingerprint) {
		return a, hint.WithCode(hint.New("the authority of "+cfg.Server+" has another fingerprint: "+a.Fingerprint,
			"compare with what fleet-server prints when it starts; if it differs, somebody may be in between"), hint.CodeAuth)
	}
	return a, nil
}

// ask makes one request and waits for what becomes of it.
func (cfg Config) ask(ctx context.Context, c *client, authority trust.Authority, keys devicekey.Public) (*protocol.Grant, error) {
	nonce := make([]byte, protocol.NonceBytes)
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	request := protocol.Request{
		SchemaVersion: protocol.SchemaVersion, DeviceID: cfg.DeviceID, MachineID: cfg.MachineID, IdentityKey: keys.Pending.PublicKey,
		SealingKey: keys.SealingKey, Commitment: protocol.Commit(nonce), Facts: cfg.Facts,
	}
	der, err := protocol.Authority(authority.PEM)
	if err != nil {
		return nil, err
	}
	receipt, err := c.add(ctx, request)
	if err != nil {
		return nil, err
	}
	// Only now: whoever answered is bound to its nonce.
	if err := c.reveal(ctx, receipt, nonce); err != nil {
		return nil, err
	}
	cfg.Show(Notice{DeviceID: cfg.DeviceID, Server: cfg.Server, Code: protocol.Code(der, request, receipt, nonce), Expires: receipt.Expires, Fingerprint: authority.Fingerprint})
	return cfg.wait(ctx, c, receipt)
}

func (cfg Config) wait(ctx context.Context, c *client, receipt protocol.Receipt) (*protocol.Grant, error) {
	for {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(cfg.Poll):
		}
		status, err := c.status(ctx, receipt)
		switch {
		case errors.Is(err, errExpired):
			return nil, err
		case err != nil:
			// A server that is away comes back; what it forgot shows then.
			cfg.Log.Warn("the server does not answer; still waiting", "op", "join", "error", err)
		case status.State == protocol.Denied:
			return nil, hint.WithCode(hint.Wrap(fmt.Errorf("join %s as %s: %w", cfg.Server, cfg.DeviceID, ErrDenied), "ask the administrator why"), hint.CodeDeclined)
		case status.State == protocol.Approved && status.Grant != nil:
			return status.Grant, nil
		}
	}
}
