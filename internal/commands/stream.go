package commands

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleetctl/internal/wire"
)

const (
	// keepAlive is how often a device is told that somebody still listens,
	// which it answers.
	keepAlive = 5 * time.Second
	// creditEvery is how many parts are acknowledged at once.
	creditEvery = wire.StreamWindow / 4
	// controlLifetime bounds how late a control message may arrive.
	controlLifetime = 20 * time.Second
)

// Stream sends a command whose answer may take any time and be of any length,
// and gives each part to onData, in order. While onData blocks, the device
// soon waits as well. r.Timeout is the longest silence of the device. When
// Stream returns early, since ctx ended or onData failed, the device is told.
func (s *Sender) Stream(ctx context.Context, r Request, onData func([]byte) error) error {
	return s.stream(ctx, r, nil, onData)
}

func (s *Sender) stream(ctx context.Context, r Request, input <-chan wire.StreamInput, onData func([]byte) error) error {
	if err := wire.ValidateDeviceID(r.Device); err != nil {
		return err
	}
	if r.Timeout <= keepAlive || r.Timeout > wire.MaxCommandLifetime {
		return fmt.Errorf("send %s to %s: timeout %s is not between %s and %s", r.Verb, r.Device, r.Timeout, keepAlive, wire.MaxCommandLifetime)
	}
	nonce, err := newNonce()
	if err != nil {
		return fmt.Errorf("send %s to %s: %w", r.Verb, r.Device, err)
	}
	replies := make(chan *nats.Msg, 2*wire.StreamWindow)
	sub, err := s.nc.ChanSubscribe(wire.ReplySubject(r.Device, nonce), replies)
	if err != nil {
		return fmt.Errorf("send %s to %s: %w", r.Verb, r.Device, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := s.publish(r.Device, r.Verb, nonce, r.Timeout, r.Body); err != nil {
		return err
	}
	in := &inlet{sender: s, device: r.Device, stream: nonce, from: input}
	next, whole, err := s.follow(ctx, r, in, replies, onData)
	if !whole {
		_ = s.control(r.Device, wire.StreamControl{Stream: nonce, Received: next, Cancel: true}) // its lease ends by itself
	}
	return err
}

// follow collects the answer; whole says that the device is done with it.
func (s *Sender) follow(ctx context.Context, r Request, in *inlet, replies <-chan *nats.Msg, onData func([]byte) error) (next uint64, whole bool, err error) {
	silence := time.NewTimer(r.Timeout)
	defer silence.Stop()
	beat := time.NewTicker(keepAlive)
	defer beat.Stop()
	pace, leave := s.pacer.join(r.Device)
	defer leave()
	var acknowledged uint64
	unpaid := 0 // bytes since then
	for {
		select {
		case msg := <-replies:
			silence.Reset(r.Timeout)
			var failed error
			whole, err = receive(r.Device, msg.Data, next, func(reply wire.Reply) {
				in.consumed = max(in.consumed, min(reply.Consumed, in.sent))
				if len(reply.Data) > 0 {
					failed = onData(reply.Data)
				}
			})
			next++
			unpaid += len(msg.Data)
			if err == nil {
				err = failed
			}
			var refused *RefusedError
			if whole || err != nil {
				return next, whole || errors.As(err, &refused), err
			}
			if next-acknowledged < creditEvery {
				continue
			}
		case piece, more := <-in.ready():
			if err := in.pass(piece, more); err != nil {
				return next, false, err
			}
			continue
		case <-beat.C:
		case <-silence.C:
			return next, false, fmt.Errorf("%s %s: %w", r.Verb, r.Device, ErrNoAnswer)
		case <-ctx.Done():
			return next, false, fmt.Errorf("%s %s: %w", r.Verb, r.Device, context.Cause(ctx))
		}
		// The device waits as well: it is at most a window ahead.
		if err := pace.wait(ctx, int(next-acknowledged), unpaid); err != nil { //nolint:gosec // a window at most
			return next, false, fmt.Errorf("%s %s: %w", r.Verb, r.Device, context.Cause(ctx))
		}
		acknowledged, unpaid = next, 0
		if err := s.control(r.Device, wire.StreamControl{Stream: in.stream, Received: next}); err != nil {
			return next, false, err
		}
	}
}

func (s *Sender) control(device string, c wire.StreamControl) error {
	nonce, err := newNonce()
	if err != nil {
		return err
	}
	body, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode stream control: %w", err)
	}
	return s.publish(device, wire.VerbStream, nonce, controlLifetime, body)
}

// publish signs a command and sends it.
func (s *Sender) publish(device string, verb wire.Verb, nonce string, lifetime time.Duration, body json.RawMessage) error {
	sealed, err := s.signer.Seal(wire.KindCommand, wire.Command{
		SchemaVersion: wire.SchemaVersion, Device: device, Verb: verb, Nonce: nonce,
		Expires: time.Now().Add(lifetime).UTC(), Body: body,
	})
	if err != nil {
		return err
	}
	if err := s.nc.Publish(wire.CommandSubject(device, string(verb)), sealed); err != nil {
		return fmt.Errorf("send %s to %s: %w", verb, device, err)
	}
	return nil
}

func newNonce() (string, error) {
	raw := make([]byte, nonceBytes)
	if _, err := rand.Read(raw); err != nil {
		return "", err
	}
	return hex.EncodeToString(raw), nil
}
