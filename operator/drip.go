package operator

import (
	"context"
	"sync"
	"time"
)

// drip lets so many devices a second pass, the longest waiting first, each once
// however often it was added. What may wait goes through it: a fleet whose
// states change all the time must not turn each change into a write to the API.
type drip struct {
	rate func() int // a second

	mu      sync.Mutex
	waiting []string
	listed  map[string]struct{}
}

func newDrip(rate func() int) *drip { return &drip{rate: rate, listed: map[string]struct{}{}} }

func (d *drip) add(device string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, waits := d.listed[device]; !waits {
		d.listed[device] = struct{}{}
		d.waiting = append(d.waiting, device)
	}
}

// len is how many wait.
func (d *drip) len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.waiting)
}

// take gives the next n devices at most.
func (d *drip) take(n int) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	n = min(n, len(d.waiting))
	out := d.waiting[:n:n]
	d.waiting = d.waiting[n:]
	for _, device := range out {
		delete(d.listed, device)
	}
	return out
}

const dripsPerSecond = 10

// run hands devices to pass until ctx ends.
func (d *drip) run(ctx context.Context, pass func(device string)) {
	tick := time.NewTicker(time.Second / dripsPerSecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, device := range d.take(max(1, d.rate()/dripsPerSecond)) {
				pass(device)
			}
		}
	}
}
