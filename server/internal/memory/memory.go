// Package memory keeps the process' heap to a part of the machine's memory: the
// garbage collector lets it double before it works, which a small machine may
// have no room for, and which costs a large fleet a fifth of its processors on a
// machine that has plenty. It owns the process' memory limit, and how often its
// collector works.
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

// How much the heap grows before the collector works, in percent of what is live.
const (
	usual = 100
	// easy is for a process that holds much, on a machine of which it then takes no
	// more than plenty.
	easy   = 200
	much   = 1 << 30
	plenty = 0.25
)

// Keep adjusts both until ctx ends, how often the collector works only if that is
// adjustable. When it cannot be told how much memory the machine has it does nothing.
func Keep(ctx context.Context, adjustable bool) {
	machine, known := machineBytes()
	if !known {
		return
	}
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for now := usual; ; {
		metrics.Read(samples)
		held := samples[0].Value.Uint64() + samples[1].Value.Uint64()
		debug.SetMemoryLimit(limit(machine, held))
		if percent := growth(machine, held); percent != now && adjustable {
			debug.SetGCPercent(percent)
			now = percent
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// growth is in percent of held.
func growth(machine, held uint64) int {
	if held >= much && float64(held)*(1+easy/100) <= plenty*float64(machine) {
		return easy
	}
	return usual
}

// limit is in bytes; held is what the process cannot do without.
func limit(machine, held uint64) int64 {
	return int64(max(share*float64(machine), headroom*float64(held)))
}
