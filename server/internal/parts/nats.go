package parts

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleetctl/internal/broker/accounts"
	"github.com/nationtech/fleetctl/internal/hint"
)

// How a connection notices that its server is gone, and how it comes back: a
// part has to be at work again well within half a minute.
const (
	dialTimeout   = 5 * time.Second
	pingInterval  = 5 * time.Second
	maxPingsOut   = 2
	reconnectWait = 250 * time.Millisecond
	jitter        = 500 * time.Millisecond
)

// connect gives a connection as role, once it is up. It is kept up until it is
// closed, whatever happens to the servers.
func (a *Access) connect(ctx context.Context, role string) (*nats.Conn, error) {
	key, err := a.key(role)
	if err != nil {
		return nil, err
	}
	public, err := key.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("NATS key of %s: %w", role, err)
	}
	log := a.Log.With("component", "nats", "role", role)
	up := make(chan struct{}, 1)
	var problem atomic.Pointer[error]
	none := errors.New("no server answered")
	problem.Store(&none)
	options := []nats.Option{
		nats.Name("fleet-server " + role + " " + a.Version),
		nats.Nkey(public, key.Sign),
		nats.CustomInboxPrefix(accounts.Inbox(role)),
		nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12}), // also where the URL says nats://
		nats.Timeout(dialTimeout),
		nats.PingInterval(pingInterval), nats.MaxPingsOutstanding(maxPingsOut),
		nats.MaxReconnects(-1), nats.ReconnectWait(reconnectWait), nats.ReconnectJitter(jitter, jitter),
		nats.RetryOnFailedConnect(true),
		// Servers tell of each other by addresses that no certificate names.
		nats.IgnoreDiscoveredServers(),
		nats.ReconnectBufSize(-1), // what is said while away is said again by who said it
		nats.ConnectHandler(func(*nats.Conn) { up <- struct{}{} }),
		nats.ReconnectHandler(func(c *nats.Conn) { log.Info("connected again", "server", c.ConnectedUrlRedacted()) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("disconnected", "error", err)
			}
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
			problem.Store(&err)
			log.Debug("not connected", "error", err)
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { log.Warn("NATS refused", "error", err) }),
	}
	if a.NATSCAFile != "" {
		options = append(options, nats.RootCAs(a.NATSCAFile))
	}
	options = append(options, func(o *nats.Options) error { o.Servers, o.IgnoreAuthErrorAbort = a.NATSURLs, true; return nil })
	conn, err := nats.Connect("", options...)
	if err != nil {
		return nil, fmt.Errorf("connect %s to NATS: %w", role, err)
	}
	select {
	case <-up:
		return conn, nil
	case <-ctx.Done():
		conn.Close()
		return nil, hint.Wrap(fmt.Errorf("connect %s to NATS: %w: %w", role, context.Cause(ctx), *problem.Load()),
			"check --nats-url, that the servers are up, and that they are configured with the public half of this key")
	}
}
