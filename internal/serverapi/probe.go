package serverapi

import (
	"context"
	"sync"
	"time"

	"github.com/nationtech/fleetctl/internal/commands"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/wire"
)

const (
	// probePatience is how long a device may take for its sign of life.
	probePatience = 2500 * time.Millisecond
	// probeAge is how long one sign of life does for all who ask: looking at
	// a device costs it no more than this, however many look.
	probeAge = 500 * time.Millisecond
)

// probe asks a device for a sign of life, for somebody who looks at it. NATS
// notices a pulled cable only minutes later, to spare metered links. Unlike a
// ping it is no act of a person's: it is on no record, and shared.
func (h *handlers) probe(c call) (any, error) {
	if err := h.online(c); err != nil {
		return nil, err
	}
	took, err := h.probes.ask(c.Context(), c.device, func(ctx context.Context) error {
		return h.cfg.Commands.Send(ctx, commands.Request{Device: c.device, Verb: wire.VerbPing, Timeout: probePatience}, nil)
	})
	if err != nil {
		return nil, commandFailure(err)
	}
	return api.Ping{SchemaVersion: api.SchemaVersion, DeviceID: c.device, RoundTripMillis: float64(took.Microseconds()) / 1000}, nil
}

// probes are those under way and those just over, by device.
type probes struct {
	mu sync.Mutex
	of map[string]*oneProbe
}

type oneProbe struct {
	done chan struct{} // closed when took and err are there
	took time.Duration
	err  error
}

// ask gives how long the device took to answer send, or why it did not. send
// goes on when ctx ends: others may wait for it.
func (p *probes) ask(ctx context.Context, device string, send func(context.Context) error) (time.Duration, error) {
	p.mu.Lock()
	one := p.of[device]
	if one == nil {
		one = &oneProbe{done: make(chan struct{})}
		if p.of == nil {
			p.of = map[string]*oneProbe{}
		}
		p.of[device] = one
		go p.run(context.WithoutCancel(ctx), device, one, send)
	}
	p.mu.Unlock()
	select {
	case <-one.done:
		return one.took, one.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (p *probes) run(ctx context.Context, device string, one *oneProbe, send func(context.Context) error) {
	began := time.Now()
	one.err = send(ctx)
	one.took = time.Since(began)
	close(one.done)
	time.AfterFunc(probeAge, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.of, device)
	})
}
