package agent

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/nationtech/fleetctl/internal/wire"
)

// Why input ends a command.
var (
	errInputGap    = errors.New("a piece of the input went missing")
	errInputWindow = errors.New("more input came than was asked for")
)

// Input is what a running command reads: the pieces that a person at the
// control plane sends. It holds at most wire.InputWindow of them.
type Input struct {
	ctx    context.Context
	pieces chan []byte
	sizes  chan wire.Size // the newest one of the person's terminal
	// consumed is ready when so much was read that the sender should know.
	consumed chan struct{}
	rest     []byte // of the piece that is being read

	mu         sync.Mutex
	next       uint64 // the piece that has to come
	ended      bool
	read, told uint64
}

func newInput(ctx context.Context) *Input {
	return &Input{ctx: ctx, pieces: make(chan []byte, wire.InputWindow), sizes: make(chan wire.Size, 1), consumed: make(chan struct{}, 1)}
}

// put takes a piece. It never blocks: pings arrive behind it.
func (i *Input) put(p wire.StreamInput) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case p.Sequence < i.next || i.ended:
		return nil
	case p.Sequence > i.next:
		return errInputGap
	case len(p.Data) > wire.MaxInputBytes:
		return errInputWindow
	}
	i.next++
	if p.Size != nil {
		select { // an older one that nobody took is of no interest
		case <-i.sizes:
		default:
		}
		i.sizes <- *p.Size
	}
	select {
	case i.pieces <- p.Data: // an empty one too: it counts
	default:
		return errInputWindow
	}
	if p.End {
		i.ended = true
		close(i.pieces)
	}
	return nil
}

// Read implements io.Reader; it ends with the command.
func (i *Input) Read(p []byte) (int, error) {
	for len(i.rest) == 0 {
		select {
		case piece, more := <-i.pieces:
			if !more {
				return 0, io.EOF
			}
			i.rest = piece
			i.count()
		case <-i.ctx.Done():
			return 0, context.Cause(i.ctx)
		}
	}
	n := copy(p, i.rest)
	i.rest = i.rest[n:]
	return n, nil
}

// Sizes gives the person's terminal's, when it changes.
func (i *Input) Sizes() <-chan wire.Size { return i.sizes }

func (i *Input) count() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.read++
	if i.read-i.told < wire.InputWindow/2 {
		return
	}
	select {
	case i.consumed <- struct{}{}:
	default:
	}
}

// tell gives how many pieces were read, for the next reply.
func (i *Input) tell() uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.told = i.read
	return i.read
}
