package agent

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/nationtech/fleetctl/internal/wire"
)

const (
	streamLease = wire.StreamLeaseSeconds * time.Second
	// batchDelay is the least time between two parts that are not full. What
	// comes after a pause is sent at once: somebody waits for it.
	batchDelay = 20 * time.Millisecond
)

// Why an answer is cut short.
var (
	errCancelled = errors.New("cancelled")
	errLeaseOver = errors.New("the control plane has gone")
)

// streams are the answers under way, by the nonce of their command.
type streams struct {
	mu  sync.Mutex
	all map[string]*stream
}

func (s *streams) add(nonce string, one *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[string]*stream{}
	}
	s.all[nonce] = one
}

func (s *streams) remove(nonce string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, nonce)
}

// control hands a StreamControl to the answer that it is about. One about an
// answer that is over is of no interest.
func (s *streams) control(body json.RawMessage) {
	var c wire.StreamControl
	if json.Unmarshal(body, &c) != nil {
		return
	}
	s.mu.Lock()
	one := s.all[c.Stream]
	s.mu.Unlock()
	if one == nil {
		return
	}
	if c.Cancel {
		one.cancel(errCancelled)
		return
	}
	select {
	case one.controls <- c.Received:
	case <-one.ctx.Done():
	}
}

// input hands on a piece of a running command's input.
func (s *streams) input(body json.RawMessage) {
	var piece wire.StreamInput
	if json.Unmarshal(body, &piece) != nil {
		return
	}
	s.mu.Lock()
	one := s.all[piece.Stream]
	s.mu.Unlock()
	if one == nil {
		return
	}
	if err := one.input.put(piece); err != nil {
		one.cancel(err)
	}
}

// stream sends one command's answer in parts, no faster than they arrive. It
// is the writer of the command's handler.
type stream struct {
	ctx      context.Context
	cancel   context.CancelCauseFunc
	send     func(wire.Reply) error
	in       chan []byte
	controls chan uint64
	input    *Input
}

func newStream(ctx context.Context, send func(wire.Reply) error) *stream {
	s := &stream{send: send, in: make(chan []byte), controls: make(chan uint64)}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.input = newInput(s.ctx)
	return s
}

// Write implements io.Writer. It blocks while the receiver is slow, and fails
// once the answer is cut short.
func (s *stream) Write(p []byte) (int, error) {
	for sent := 0; sent < len(p); {
		n := min(len(p)-sent, wire.MaxPartBytes)
		select {
		case s.in <- append([]byte(nil), p[sent:sent+n]...):
			sent += n
		case <-s.ctx.Done():
			return sent, context.Cause(s.ctx)
		}
	}
	return len(p), nil
}

// pump sends what is written until in is closed, and gives the number of the
// next reply and what is still to be sent with it.
func (s *stream) pump() (next uint64, rest []byte, err error) {
	var received uint64
	var due <-chan time.Time
	var sent time.Time // the last part with data
	ripe := false
	lease := time.NewTimer(streamLease)
	defer lease.Stop()
	reply := func(data []byte) error {
		err := s.send(wire.Reply{SchemaVersion: wire.SchemaVersion, Sequence: next, Data: data, Consumed: s.input.tell()})
		next++
		return err
	}
	for {
		for (ripe || len(rest) >= wire.MaxPartBytes) && len(rest) > 0 && next < received+wire.StreamWindow {
			n := min(len(rest), wire.MaxPartBytes)
			if err := reply(rest[:n]); err != nil {
				return next, nil, err
			}
			rest, ripe, due, sent = rest[n:], false, nil, time.Now()
		}
		in := s.in
		if len(rest) >= wire.MaxPartBytes {
			in = nil // until some of it is gone
		} else if len(rest) > 0 && due == nil && !ripe {
			due = time.After(batchDelay - time.Since(sent))
		}
		select {
		case data, more := <-in:
			if !more {
				return next, rest, nil
			}
			rest = append(rest, data...)
		case <-due:
			ripe, due = true, nil
		case n := <-s.controls:
			received = max(received, min(n, next))
			lease.Reset(streamLease)
			if err := reply(nil); err != nil { // a sign of life
				return next, nil, err
			}
		case <-s.input.consumed:
			if err := reply(nil); err != nil { // the sender may go on
				return next, nil, err
			}
		case <-lease.C:
			s.cancel(errLeaseOver)
		case <-s.ctx.Done():
			return next, nil, context.Cause(s.ctx)
		}
	}
}

// open makes a command's answer known, so that what comes behind the command
// finds it.
func (a *Agent) open(ctx context.Context, c wire.Command) *stream {
	subject := wire.ReplySubject(a.cfg.Device, c.Nonce)
	s := newStream(ctx, func(r wire.Reply) error { return a.link.Send(subject, mustJSON(r)) })
	a.streams.add(c.Nonce, s)
	return s
}

// carryOut runs a command's handler and sends its answer.
func (a *Agent) carryOut(c wire.Command, s *stream, handle handler) {
	defer s.cancel(nil)
	defer a.streams.remove(c.Nonce)

	done := make(chan error, 1)
	go func() {
		defer close(s.in)
		done <- handle(s.ctx, c, s)
	}()
	next, rest, cut := s.pump()
	s.cancel(cut)
	err := <-done
	if cut != nil {
		err = cut
	}
	last := wire.Reply{SchemaVersion: wire.SchemaVersion, Sequence: next, Data: rest, Done: true}
	var typed *wire.ReplyError
	switch {
	case errors.As(err, &typed):
		last.Error = typed
	case err != nil:
		last.Error = &wire.ReplyError{Code: wire.ReplyFailed, Message: wire.ClipMessage(err.Error())}
	}
	if err := s.send(last); err != nil {
		a.log.Warn("command not answered", "op", "command", "verb", c.Verb, "error", err)
	}
}
