// Package link is the agent's one connection to the fleet: connecting and
// reconnecting for ever, direct gets and acknowledged puts. It owns how a
// device speaks to NATS within wire.DevicePermissions, and nothing of what it
// says.
package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sys/unix"

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
	// renewEvery is how often a link whose credential is about to end looks
	// for a fresh one, while the issuer does not answer.
	renewEvery = time.Minute
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
	nc      *nats.Conn
	device  string
	problem atomic.Pointer[error] // why there is no connection
	hinted  atomic.Uint64         // sequence of the newest manifest that a hint told of
	dial    *dialer
}

// Open starts connecting and returns. It fails only on a configuration that
// can never work: a server that does not answer or refuses is tried again, for
// ever, with a fresh credential each time.
func Open(ctx context.Context, cfg Config) (*Link, error) {
	dial := &dialer{ctx: ctx, source: cfg.Source}
	l := &Link{device: cfg.Device, dial: dial}
	dial.current.Store(&credential.Credential{})
	failed := func(_ *nats.Conn, err error) {
		if err == nil {
			return
		}
		if cause := dial.problem.Swap(nil); cause != nil {
			err = *cause // nats.go keeps the first line of the reason only
		} else {
			dial.refused(err)
		}
		if last := l.problem.Swap(&err); last == nil || (*last).Error() != err.Error() {
			cfg.Log.Warn("not connected", "op", "connect", "error", err)
		}
	}
	connected := func(nc *nats.Conn) {
		l.problem.Store(nil)
		cfg.Log.Info("connected", "op", "connect", "server", nc.ConnectedUrlRedacted())
		cfg.Connected()
	}
	nc, err := nats.Connect("", func(o *nats.Options) error {
		o.Servers = cfg.URLs
		o.Name = "fleet-agent " + cfg.Device
		o.InboxPrefix = wire.InboxPrefix(cfg.Device)
		o.TLSConfig = &tls.Config{RootCAs: cfg.Roots, MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
		o.CustomDialer = dial
		o.Timeout = dialTimeout
		o.UserInfo = dial.userInfo
		o.TokenHandler = dial.token
		o.RetryOnFailedConnect = true
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
			dial.refused(err) // nats.go says it here alone when it was connected before
			cfg.Log.Warn("broker refused", "op", "nats", "error", err)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	l.nc = nc
	go l.renew(ctx)
	return l, nil
}

// renew connects anew before the server ends the link together with the
// credential that it was made with: at a moment when the next one is there
// already, and spread over the fleet. When there is none the link stays.
func (l *Link) renew(ctx context.Context) {
	for {
		wait := renewEvery
		if due := l.dial.current.Load().Refresh; !due.IsZero() {
			wait = max(time.Second, min(wait, time.Until(due)))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		now := l.dial.current.Load()
		if !l.Up() || now.Refresh.IsZero() || time.Now().Before(now.Refresh) {
			continue
		}
		fresh, err := l.dial.source.Credential(ctx)
		if err != nil || !fresh.Expires.After(now.Expires) {
			continue
		}
		if err := l.nc.ForceReconnect(); err != nil {
			return // closed
		}
	}
}

// Expires is when the credential ends that the link was made with; zero when it
// does not, or there was none yet.
func (l *Link) Expires() time.Time { return l.dial.current.Load().Expires }

// Up says whether there is a connection now.
func (l *Link) Up() bool { return l.nc.IsConnected() }

// Problem gives why there is no connection; nil while there is one.
func (l *Link) Problem() error {
	if p := l.problem.Load(); p != nil {
		return *p
	}
	return nil
}

// Subscribe calls handle for each message on subject, one at a time.
func (l *Link) Subscribe(subject string, handle func(subject string, data []byte)) error {
	hints := subject == wire.HintSubject(l.device)
	_, err := l.nc.Subscribe(subject, func(m *nats.Msg) {
		if hints {
			l.noteHint(m)
		}
		handle(m.Subject, m.Data)
	})
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	return nil
}

// Close sends what is under way, for as long as ctx allows, and disconnects.
func (l *Link) Close(ctx context.Context) error {
	defer l.nc.Close()
	if !l.Up() {
		return nil
	}
	if err := l.nc.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("flush connection: %w", err)
	}
	return nil
}

// reconnectDelay is asked for once all servers have been tried. Half of it is
// jitter: a fleet that lost its broker comes back spread out.
func reconnectDelay(attempts int) time.Duration {
	d := lastRetry
	if attempts < 7 {
		d = min(lastRetry, firstRetry<<max(0, attempts-1))
	}
	return d/2 + rand.N(d/2)
}

// dialer asks for a credential before it dials, so that a source that cannot
// give one is the error of the attempt.
type dialer struct {
	ctx     context.Context
	source  credential.Source
	current atomic.Pointer[credential.Credential]
	problem atomic.Pointer[error]
}

// Dial implements nats.CustomDialer.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	c, err := d.source.Credential(d.ctx)
	if err != nil {
		d.problem.Store(&err)
		return nil, fmt.Errorf("get credential: %w", err)
	}
	d.current.Store(&c)
	ctx, cancel := context.WithTimeout(d.ctx, dialTimeout)
	defer cancel()
	// No keep-alives: Go's, every 15 s, would be most of an idle device's traffic.
	tcp := net.Dialer{KeepAlive: -1, Control: boundAcknowledgement}
	conn, err := tcp.DialContext(ctx, network, address)
	if err != nil && d.ctx.Err() != nil {
		err = errors.Join(err, d.ctx.Err())
	}
	return conn, err
}

// boundAcknowledgement sets TCP_USER_TIMEOUT (RFC 5482, tcp(7)).
func boundAcknowledgement(_, _ string, raw syscall.RawConn) error {
	var err error
	ctlErr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unacknowledged.Milliseconds()))
	})
	return errors.Join(ctlErr, err)
}

// refused tells a source that the server did not take its credential.
func (d *dialer) refused(err error) {
	if source, ok := d.source.(credential.Refusable); ok && isRefusal(err) {
		source.Refused()
	}
}

func isRefusal(err error) bool {
	for _, refusal := range []error{nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}

// SkipTLSHandshake is false: nats.go does the handshake.
func (d *dialer) SkipTLSHandshake() bool { return false }

func (d *dialer) userInfo() (user, password string) {
	c := d.current.Load()
	return c.User, c.Password.Reveal()
}

func (d *dialer) token() string { return d.current.Load().Token.Reveal() }
