// Package memory keeps the process' heap to a part of the machine's memory: the
// garbage collector lets it double before it works, which a small machine may
// have no room for. It owns the process' memory limit.
package memory

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// share of the machine's memory that a process may take before its collector
	// works more often than it has to.
	share = 0.5
	// headroom is how much more than it holds a process may take in any case:
	// with less the collector has no end.
	headroom = 1.25
	every    = 5 * time.Second
)

// Keep adjusts the limit until ctx ends. When it cannot be told how much memory
// the machine has it does nothing.
func Keep(ctx context.Context) {
	machine, known := machineBytes()
	if !known {
		return
	}
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		metrics.Read(samples)
		debug.SetMemoryLimit(limit(machine, samples[0].Value.Uint64()+samples[1].Value.Uint64()))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// limit is in bytes; held is what the process cannot do without.
func limit(machine, held uint64) int64 {
	return int64(max(share*float64(machine), headroom*float64(held)))
}
