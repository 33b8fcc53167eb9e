// Package commands is the control plane's side of the signed command path: it
// signs a command, sends it to a device and collects the answer. Who may send
// which command is the caller's affair, as is the audit record.
package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleetctl/internal/wire"
)

// ErrNoAnswer says that a device did not answer in time.
var ErrNoAnswer = errors.New("the device did not answer in time")

// RefusedError is a device's own refusal or failure.
type RefusedError struct {
	Device string
	Reply  wire.ReplyError
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("device %s: %s: %s", e.Device, e.Reply.Code, e.Reply.Message)
}

// Signer signs as the control plane.
type Signer interface {
	Seal(kind wire.Kind, v any) ([]byte, error)
}

// Sender sends commands. It is safe for concurrent use.
type Sender struct {
	nc     *nats.Conn
	signer Signer
	pacer  pacer
}

// NewSender gives a sender on a connection that may publish commands and hear
// replies.
func NewSender(nc *nats.Conn, signer Signer) *Sender { return &Sender{nc: nc, signer: signer} }

// Request is one command.
type Request struct {
	Device  string
	Verb    wire.Verb
	Body    json.RawMessage
	Timeout time.Duration // for the whole answer; at most wire.MaxCommandLifetime
}

const nonceBytes = 16

// Send sends a command and gives each part of its answer to onData, in order.
// It returns when the answer is whole: nil, RefusedError, ErrNoAnswer, or that
// parts went missing.
func (s *Sender) Send(ctx context.Context, r Request, onData func([]byte)) error {
	if err := wire.ValidateDeviceID(r.Device); err != nil {
		return err
	}
	if r.Timeout <= 0 || r.Timeout > wire.MaxCommandLifetime {
		return fmt.Errorf("send %s to %s: timeout %s is not within %s", r.Verb, r.Device, r.Timeout, wire.MaxCommandLifetime)
	}
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	nonce, err := newNonce()
	if err != nil {
		return fmt.Errorf("send %s to %s: %w", r.Verb, r.Device, err)
	}
	replies, err := s.nc.SubscribeSync(wire.ReplySubject(r.Device, nonce))
	if err != nil {
		return fmt.Errorf("send %s to %s: %w", r.Verb, r.Device, err)
	}
	defer func() { _ = replies.Unsubscribe() }()
	if err := s.publish(r.Device, r.Verb, nonce, r.Timeout, r.Body); err != nil {
		return err
	}
	for next := uint64(0); ; next++ {
		msg, err := replies.NextMsgWithContext(ctx)
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return fmt.Errorf("%s %s: %w", r.Verb, r.Device, ErrNoAnswer)
		case err != nil:
			return fmt.Errorf("%s %s: %w", r.Verb, r.Device, err)
		}
		done, err := receive(r.Device, msg.Data, next, func(reply wire.Reply) {
			if len(reply.Data) > 0 && onData != nil {
				onData(reply.Data)
			}
		})
		if done || err != nil {
			return err
		}
	}
}

// receive handles the reply that should have the number next.
func receive(device string, data []byte, next uint64, onReply func(wire.Reply)) (done bool, err error) {
	var reply wire.Reply
	if err := json.Unmarshal(data, &reply); err != nil {
		return false, fmt.Errorf("decode answer of %s: %w", device, err)
	}
	if reply.Sequence != next {
		return false, fmt.Errorf("answer of %s has a gap: part %d came as part %d", device, reply.Sequence, next)
	}
	onReply(reply)
	if reply.Error != nil {
		return true, &RefusedError{Device: device, Reply: *reply.Error}
	}
	return reply.Done, nil
}
