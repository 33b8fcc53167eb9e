package sshhost

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
	"golang.org/x/crypto/ssh"
)

// dialer knows how to reach one host, and remembers what it was told by a
// person, so that reaching it again asks nothing.
type dialer struct {
	Options
	route []*endpoint // jump hosts in order, then the host itself

	mu      sync.Mutex
	answers map[Question]secret
}

// newDialer reads configuration and key files; it opens no connection.
func newDialer(ctx context.Context, t Target, o Options) (*dialer, error) {
	route, err := resolve(ctx, t, &o)
	if err != nil {
		return nil, err
	}
	return &dialer{Options: o, route: route, answers: map[Question]secret{}}, nil
}

func (d *dialer) last() *endpoint { return d.route[len(d.route)-1] }

func (d *dialer) name() string { return d.last().name() }

// remember asks a question the first time, and gives the answer again after
// that. Answers are forgotten when they turn out to be wrong.
func (d *dialer) remember(ctx context.Context, q Question) (secret, error) {
	d.mu.Lock()
	s, ok := d.answers[q]
	d.mu.Unlock()
	if ok {
		return s, nil
	}
	s, err := d.answer(ctx, q)
	if err == nil {
		d.mu.Lock()
		d.answers[q] = s
		d.mu.Unlock()
	}
	return s, err
}

func (d *dialer) forget(q Question) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.answers, q)
}

// becomeRoot opens a root shell on a connection. A password that sudo refused
// is not used again.
func (d *dialer) becomeRoot(ctx context.Context, client *ssh.Client) (*shell, error) {
	q := Question{Kind: SudoPassword, Host: d.name()}
	s, err := becomeRoot(ctx, client, func(ctx context.Context) (secret, error) { return d.remember(ctx, q) })
	if hint.Code(err) == hint.CodeAuth {
		d.forget(q)
	}
	return s, err
}

// dial connects along the route and authenticates at each stop.
func (d *dialer) dial(ctx context.Context) (*link, error) {
	var hops []*ssh.Client
	for _, e := range d.route {
		client, err := d.hop(ctx, e, hops)
		if err != nil {
			closeAll(hops)
			return nil, err
		}
		hops = append(hops, client)
	}
	return newLink(hops, d.last().keepAlive), nil
}

// hop makes the next connection of a route, through the one before.
func (d *dialer) hop(ctx context.Context, e *endpoint, before []*ssh.Client) (*ssh.Client, error) {
	log := d.Log.With("host", e.name())
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	patience := newPatience(e.timeout, cancel)
	defer patience.stop()

	log.Debug("connect", "op", "dial", "address", e.address(), "jumps", len(before))
	conn, err := d.connect(ctx, e, before)
	if err != nil {
		return nil, unreachable(e, fmt.Errorf("connect: %w", cause(ctx, err)))
	}
	// Closing the connection is what interrupts the handshake.
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()

	auth := &authenticator{dialer: d, endpoint: e, ctx: ctx, patience: patience}
	defer auth.close()
	keys, err := newHostKeys(d, e, ctx, patience)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	config := &ssh.ClientConfig{
		User:              e.user,
		Auth:              auth.methods(),
		HostKeyCallback:   keys.check,
		HostKeyAlgorithms: keys.algorithms(),
		ClientVersion:     "SSH-2.0-fleetctl",
	}
	c, channels, requests, err := ssh.NewClientConn(conn, e.address(), config)
	if err != nil {
		_ = conn.Close()
		return nil, d.handshakeError(ctx, e, auth, keys, err)
	}
	log.Debug("authenticated", "op", "dial", "server", string(c.ServerVersion()))
	return ssh.NewClient(c, channels, requests), nil
}

// connect opens the byte stream that SSH is spoken on.
func (d *dialer) connect(ctx context.Context, e *endpoint, before []*ssh.Client) (net.Conn, error) {
	switch {
	case len(before) > 0:
		return before[len(before)-1].DialContext(ctx, "tcp", e.address())
	case e.proxyCommand != "":
		return dialCommand(e.proxyCommand)
	}
	conn, err := d.DialContext(ctx, "tcp", e.address())
	if err != nil {
		return nil, err
	}
	return promptly(conn), nil
}

// handshakeError says why a handshake failed: what a callback found out comes
// before what the library made of it.
func (d *dialer) handshakeError(ctx context.Context, e *endpoint, auth *authenticator, keys *hostKeys, err error) error {
	switch {
	case keys.err != nil:
		return keys.err
	case auth.err != nil:
		return auth.err
	case ctx.Err() != nil:
		return unreachable(e, context.Cause(ctx))
	case auth.began(err):
		return auth.refused(err)
	}
	return unreachable(e, fmt.Errorf("handshake: %w", err))
}

func unreachable(e *endpoint, err error) error {
	if code := hint.Code(err); code != hint.CodeFailed {
		return err // a question to a person failed on the way
	}
	return &hint.Error{
		Err:  fmt.Errorf("%s: %w", e.name(), err),
		Hint: "check that the host is up and sshd listens there: nc -vz " + e.host + " " + strconv.Itoa(e.port),
		Code: hint.CodeUnreachable,
	}
}

// cause prefers why a context ended to the error that this led to.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func closeAll(clients []*ssh.Client) {
	for i := len(clients) - 1; i >= 0; i-- {
		_ = clients[i].Close()
	}
}

// patience is a deadline that stands still while a person thinks.
type patience struct {
	mu     sync.Mutex
	timer  *time.Timer
	left   time.Duration
	since  time.Time
	paused int
}

var errTooSlow = errors.New("no answer in time")

func newPatience(d time.Duration, cancel context.CancelCauseFunc) *patience {
	return &patience{
		timer: time.AfterFunc(d, func() { cancel(fmt.Errorf("%w (%s)", errTooSlow, d)) }),
		left:  d, since: time.Now(),
	}
}

// pause stops the clock until the function that it returns is called.
func (p *patience) pause() (resume func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paused++; p.paused == 1 && p.timer.Stop() {
		p.left -= time.Since(p.since)
	}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.paused--; p.paused == 0 {
			p.since = time.Now()
			p.timer.Reset(max(p.left, time.Second))
		}
	}
}

func (p *patience) stop() { p.timer.Stop() }
