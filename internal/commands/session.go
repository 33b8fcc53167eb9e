package commands

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/nationtech/fleetctl/internal/wire"
)

// inlet sends a running command's input, no faster than the device reads it.
type inlet struct {
	sender   *Sender
	device   string
	stream   string
	from     <-chan wire.StreamInput // nil: there is none
	sent     uint64
	consumed uint64
}

// ready gives where the next piece comes from; nil while the device has enough.
func (i *inlet) ready() <-chan wire.StreamInput {
	if i.from == nil || i.sent >= i.consumed+wire.InputWindow {
		return nil
	}
	return i.from
}

// pass sends a piece; more is false once there are no others.
func (i *inlet) pass(piece wire.StreamInput, more bool) error {
	if !more {
		i.from = nil
		return nil
	}
	piece.Stream, piece.Sequence = i.stream, i.sent
	i.sent++
	body, err := json.Marshal(piece)
	if err != nil {
		return fmt.Errorf("encode input: %w", err)
	}
	nonce, err := newNonce()
	if err != nil {
		return err
	}
	return i.sender.publish(i.device, wire.VerbInput, nonce, controlLifetime, body)
}

// Session is Stream for a command whose input goes on: pieces of at most
// wire.MaxInputBytes, whose stream and number are filled in here. While the device
// does not read, nothing is taken from input.
func (s *Sender) Session(ctx context.Context, r Request, input <-chan wire.StreamInput, onData func([]byte) error) error {
	return s.stream(ctx, r, input, onData)
}
