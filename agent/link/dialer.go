package link

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sys/unix"

	"github.com/nationtech/fleetctl/internal/credential"
)

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
	retired atomic.Bool // its connection is to end, and not to come back
}

var errRetired = errors.New("another connection has taken the place of this one")

// Dial implements nats.CustomDialer.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	if d.retired.Load() {
		return nil, errRetired
	}
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
