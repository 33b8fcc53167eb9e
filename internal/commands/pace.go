package commands

import (
	"context"
	"sync"

	"golang.org/x/time/rate"

	"github.com/nationtech/fleetctl/internal/wire"
)

// What one device may be asked to send for all of its streams together. It is
// acknowledged no faster, so that a device which does as it is told stays well
// below what the guard of the servers takes for a flood
// (presence.DefaultLimits): a part takes four thirds of its data on the wire.
const (
	streamBytes = 12 << 20 // a second
	streamParts = 1000     // a second
	// Both may be ahead of that by half a second.
	burstBytes = streamBytes / 2
	burstParts = streamParts / 2
)

// pacer keeps the pace of each device that has a stream.
type pacer struct {
	mu      sync.Mutex
	devices map[string]*pace
}

type pace struct {
	streams      int
	bytes, parts *rate.Limiter
}

// join gives the pace of a device, for one more stream, until leave.
func (p *pacer) join(device string) (_ *pace, leave func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.devices == nil {
		p.devices = map[string]*pace{}
	}
	d := p.devices[device]
	if d == nil {
		d = &pace{bytes: rate.NewLimiter(streamBytes, burstBytes), parts: rate.NewLimiter(streamParts, burstParts)}
		p.devices[device] = d
	}
	d.streams++
	return d, sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if d.streams--; d.streams == 0 {
			delete(p.devices, device)
		}
	})
}

// wait returns when so many parts, of so many bytes in all, may be acknowledged.
func (p *pace) wait(ctx context.Context, parts, bytes int) error {
	for _, take := range []struct {
		from   *rate.Limiter
		amount int
	}{{p.parts, parts}, {p.bytes, min(bytes, parts*wire.MaxPartBytes)}} {
		for take.amount > 0 {
			some := min(take.amount, take.from.Burst())
			if err := take.from.WaitN(ctx, some); err != nil {
				return err
			}
			take.amount -= some
		}
	}
	return nil
}
