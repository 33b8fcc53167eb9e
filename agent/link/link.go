// Package link is the agent's one connection to the fleet: connecting and
// reconnecting for ever, direct gets and acknowledged puts. It owns how a
// device speaks to NATS within wire.DevicePermissions, and nothing of what it
// says.
package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleetctl/internal/credential"
	"github.com/nationtech/fleetctl/internal/wire"
)

const (
	dialTimeout = 10 * time.Second
	// A path that died is noticed when something that was sent is not
	// acknowledged, which a heartbeat makes sure of. The pings are for what
	// acknowledges and passes nothing on.
	unacknowledged = 30 * time.Second
	pingInterval   = 2 * wire.HeartbeatInterval
	maxPings       = 1
	firstRetry     = 500 * time.Millisecond
	lastRetry      = 30 * time.Second
)

// Config is what a Link needs.
type Config struct {
	Device string
	URLs   []string
	Roots  *x509.CertPool // nil means the system's
	Source credential.Source
	Log    *slog.Logger
	// Connected is called after each connect and reconnect, on a goroutine
	// of the connection: it must not block.
	Connected func()
}

// Link is a connection that is being kept up.
type Link struct {
	cfg     Config
	device  string
	problem atomic.Pointer[error] // why there is no connection
	hinted  atomic.Uint64         // sequence of the newest manifest that a hint told of

	// gate is held for writing while a connection takes the place of another:
	// what was sent by the one is then with the server before anything goes
	// by the other.
	gate sync.RWMutex
	conn *conn

	mu            sync.Mutex
	subscriptions []subscription
}

// conn is one connection, and what it was made with.
type conn struct {
	*nats.Conn
	dial *dialer
	subs []*nats.Subscription
}

type subscription struct {
	subject string
	handle  func(*nats.Msg)
}

// Open starts connecting and returns. It fails only on a configuration that
// can never work: a server that does not answer or refuses is tried again, for
// ever, with a fresh credential each time.
func Open(ctx context.Context, cfg Config) (*Link, error) {
	l := &Link{cfg: cfg, device: cfg.Device}
	l.gate.Lock() // callbacks wait until conn is there
	c, err := l.connect(ctx, cfg.URLs, true)
	l.conn = c
	l.gate.Unlock()
	if err != nil {
		return nil, err
	}
	go l.renew(ctx)
	return l, nil
}

// connect makes a connection to one of urls. Patient, it comes up whenever it
// can; else only now.
func (l *Link) connect(ctx context.Context, urls []string, patient bool) (*conn, error) {
	c := &conn{dial: &dialer{ctx: ctx, source: l.cfg.Source}}
	c.dial.current.Store(&credential.Credential{})
	failed := func(nc *nats.Conn, err error) {
		if c.dial.retired.Load() {
			nc.Close()
			return
		}
		if err == nil || !l.inUse(c) {
			return
		}
		if cause := c.dial.problem.Swap(nil); cause != nil {
			err = *cause // nats.go keeps the first line of the reason only
		} else {
			c.dial.refused(err)
		}
		if last := l.problem.Swap(&err); last == nil || (*last).Error() != err.Error() {
			l.cfg.Log.Warn("not connected", "op", "connect", "error", err)
		}
	}
	connected := func(nc *nats.Conn) {
		if !l.inUse(c) {
			return // renew says when it is
		}
		l.problem.Store(nil)
		l.cfg.Log.Info("connected", "op", "connect", "server", nc.ConnectedUrlRedacted())
		l.cfg.Connected()
	}
	var err error
	c.Conn, err = nats.Connect("", func(o *nats.Options) error {
		o.Servers = urls
		o.NoRandomize = !patient
		o.Name = "fleet-agent " + l.device
		o.InboxPrefix = wire.InboxPrefix(l.device)
		o.TLSConfig = &tls.Config{RootCAs: l.cfg.Roots, MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
		o.CustomDialer = c.dial
		o.Timeout = dialTimeout
		o.UserInfo = c.dial.userInfo
		o.TokenHandler = c.dial.token
		o.RetryOnFailedConnect = patient
		o.MaxReconnect = -1
		o.IgnoreAuthErrorAbort = true // a refusal may be over tomorrow
		o.CustomReconnectDelayCB = reconnectDelay
		o.ReconnectBufSize = -1 // what is stale when the network is back is not sent
		o.IgnoreDiscoveredServers = true
		o.PingInterval = pingInterval
		o.MaxPingsOut = maxPings
		o.ConnectedCB = connected
		o.ReconnectedCB = connected
		o.ReconnectErrCB = failed
		o.DisconnectedErrCB = failed
		o.AsyncErrorCB = func(_ *nats.Conn, _ *nats.Subscription, err error) {
			c.dial.refused(err) // nats.go says it here alone when it was connected before
			l.cfg.Log.Warn("broker refused", "op", "nats", "error", err)
		}
		return nil
	})
	if err != nil {
		c.dial.refused(err)
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	return c, nil
}

// inUse says whether c is the link's connection.
func (l *Link) inUse(c *conn) bool {
	l.gate.RLock()
	defer l.gate.RUnlock()
	return l.conn == c
}

// use gives the link's connection, which stays until done is called.
func (l *Link) use() (c *conn, done func()) {
	l.gate.RLock()
	return l.conn, l.gate.RUnlock
}

// Expires is when the credential ends that the link was made with; zero when it
// does not, or there was none yet.
func (l *Link) Expires() time.Time {
	c, done := l.use()
	defer done()
	return c.dial.current.Load().Expires
}

// Up says whether there is a connection now.
func (l *Link) Up() bool {
	c, done := l.use()
	defer done()
	return c.IsConnected()
}

// Problem gives why there is no connection; nil while there is one.
func (l *Link) Problem() error {
	if p := l.problem.Load(); p != nil {
		return *p
	}
	return nil
}

// Subscribe calls handle for each message on subject, one at a time. While a
// connection takes the place of another a message may come twice, and never
// out of order.
func (l *Link) Subscribe(subject string, handle func(subject string, data []byte)) error {
	hints := subject == wire.HintSubject(l.device)
	s := subscription{subject, func(m *nats.Msg) {
		if hints {
			l.noteHint(m)
		}
		handle(m.Subject, m.Data)
	}}
	l.mu.Lock() // not while a connection takes over what there is
	defer l.mu.Unlock()
	c, done := l.use()
	defer done()
	sub, err := c.Subscribe(s.subject, s.handle)
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	c.subs = append(c.subs, sub)
	l.subscriptions = append(l.subscriptions, s)
	return nil
}

// Close sends what is under way, for as long as ctx allows, and disconnects.
func (l *Link) Close(ctx context.Context) error {
	c, done := l.use()
	defer done()
	defer c.Close()
	if !c.IsConnected() {
		return nil
	}
	if err := c.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("flush connection: %w", err)
	}
	return nil
}
