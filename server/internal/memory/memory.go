// Package memory keeps a process that holds much from growing to twice of it:
// the garbage collector lets the heap double before it works, which a fleet's
// control plane on a small machine cannot afford. It owns the process' memory
// limit.
package memory

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// Floor is the limit of a process that holds little.
	Floor = 1200 << 20
	// headroom is how much more than it holds a process may take. The less it
	// is, the more often the collector runs.
	headroom = 1.45
	every    = 5 * time.Second
)

// Keep adjusts the limit until ctx ends.
func Keep(ctx context.Context) {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		metrics.Read(samples)
		debug.SetMemoryLimit(limit(samples[0].Value.Uint64(), samples[1].Value.Uint64()))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// limit follows what is live: a limit below it would leave the collector no end.
func limit(heap, stacks uint64) int64 {
	return max(Floor, int64(headroom*float64(heap+stacks)))
}
