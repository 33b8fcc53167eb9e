package sshhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/nationtech/fleetctl/hostcfg"
	"github.com/nationtech/fleetctl/internal/hint"
)

// Host is a connected host. Its methods may be called from several
// goroutines; scripts run one after the other.
type Host struct {
	dialer *dialer
	turn   chan struct{} // holds one token: whose turn it is
	link   *link         // guarded by turn
	shell  *shell        // guarded by turn; nil before the first script
	closed bool          // guarded by turn
	how    atomic.Value  // elevation of the last root shell
}

var (
	_ hostcfg.Host     = (*Host)(nil)
	_ hostcfg.Elevator = (*Host)(nil)
)

// Dial connects to a host and authenticates. Becoming root is left to the
// first script. Errors carry exit codes: unreachable, authentication,
// declined (see internal/hint).
func Dial(ctx context.Context, t Target, o Options) (*Host, error) {
	d, err := newDialer(ctx, t, o.withDefaults())
	if err != nil {
		return nil, err
	}
	l, err := d.dial(ctx)
	if err != nil {
		return nil, err
	}
	h := &Host{dialer: d, link: l, turn: make(chan struct{}, 1)}
	h.turn <- struct{}{}
	return h, nil
}

// Name is the login, host name and port that were connected to.
func (h *Host) Name() string { return h.dialer.name() }

// Elevation is "root", "sudo" or "sudo with password", and "" before the first
// script. See hostcfg.Elevator.
func (h *Host) Elevation() string {
	how, _ := h.how.Load().(elevation)
	return string(how)
}

// Close ends the connection.
func (h *Host) Close() error {
	<-h.turn
	defer h.release()
	h.closed = true
	h.drop()
	return nil
}

// drop ends shell and connection. The caller has the turn.
func (h *Host) drop() {
	if h.shell != nil {
		h.shell.close()
		h.shell = nil
	}
	h.link.close()
}

func (h *Host) acquire(ctx context.Context) error {
	select {
	case <-h.turn:
	case <-ctx.Done():
		return fmt.Errorf("%s: wait for the script before: %w", h.Name(), context.Cause(ctx))
	}
	if h.closed {
		h.release()
		return fmt.Errorf("%s: the connection was closed", h.Name())
	}
	return nil
}

func (h *Host) release() { h.turn <- struct{}{} }

// Run runs a script as root, or as c.User. See hostcfg.Host.
func (h *Host) Run(ctx context.Context, c hostcfg.Command) (hostcfg.Result, error) {
	script := c.Script
	if c.User != "" && c.User != "root" {
		script = asUser(c.User, c.Script)
	}
	out, err := h.script(ctx, script, c.Stdin, c.Timeout)
	if err != nil {
		return hostcfg.Result{}, err
	}
	return hostcfg.Result{Stdout: out.stdout, Stderr: out.stderr, ExitCode: out.code}, nil
}

// script runs a script in the root shell, which it opens when there is none.
func (h *Host) script(ctx context.Context, script string, stdin io.Reader, timeout time.Duration) (output, error) {
	if err := h.acquire(ctx); err != nil {
		return output{}, err
	}
	defer h.release()
	if h.shell == nil {
		s, err := h.dialer.becomeRoot(ctx, h.link.client)
		if err != nil {
			return output{}, h.explain(h.link, fmt.Errorf("%s: become root: %w", h.Name(), err))
		}
		h.shell = s
		h.how.Store(s.how)
	}
	if timeout <= 0 {
		timeout = h.dialer.CommandTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, &deadlineError{timeout})
	defer cancel()
	out, err := h.shell.run(ctx, script, stdin)
	if err != nil {
		said := h.shell.said()
		h.shell = nil
		if said != "" {
			err = fmt.Errorf("%w; its last output: %s", err, said)
		}
		return output{}, h.explain(h.link, fmt.Errorf("%s: run a script: %w", h.Name(), err))
	}
	return out, nil
}

// deadlineError is the end of a script that took too long.
type deadlineError struct{ after time.Duration }

func (e *deadlineError) Error() string {
	return fmt.Sprintf("it did not end within %s and was killed", e.after)
}

// Unwrap makes the error a context.DeadlineExceeded.
func (e *deadlineError) Unwrap() error { return context.DeadlineExceeded }

// explain says of an end of stream, and of a write or an open that failed
// because there is no connection, that the connection was lost, and why.
func (h *Host) explain(l *link, err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return err
	}
	ended := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	var broken *net.OpError
	if !ended && !errors.As(err, &broken) {
		return err
	}
	if why := l.lost(lostGrace); why != nil {
		return &hint.Error{
			Err:  fmt.Errorf("%w: connection lost: %w", err, why),
			Hint: "check that the host is up, then run again: what was done stays done",
			Code: hint.CodeUnreachable,
		}
	}
	if !ended {
		return err
	}
	return fmt.Errorf("%w: the host ended the session", err)
}
