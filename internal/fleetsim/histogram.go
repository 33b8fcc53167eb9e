package fleetsim

import (
	"math"
	"sync"
	"time"
)

// histogram counts durations in buckets that are 2 % apart: a million of them
// take a few kilobytes.
type histogram struct {
	mu      sync.Mutex
	buckets map[int]int
	total   int
}

const bucketRatio = 1.02

func newHistogram() *histogram { return &histogram{buckets: map[int]int{}} }

func (h *histogram) add(d time.Duration) {
	bucket := int(math.Ceil(math.Log(float64(max(d, 1))) / math.Log(bucketRatio)))
	h.mu.Lock()
	defer h.mu.Unlock()
	h.buckets[bucket]++
	h.total++
}

func (h *histogram) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.total
}

// quantile is a duration that the share q of all did not exceed, at most 2 %
// too high; 0 when there are none.
func (h *histogram) quantile(q float64) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	left := int(math.Ceil(q * float64(h.total)))
	lowest, highest := math.MaxInt, 0
	for bucket := range h.buckets {
		lowest, highest = min(lowest, bucket), max(highest, bucket)
	}
	for bucket := lowest; bucket <= highest; bucket++ {
		if left -= h.buckets[bucket]; left <= 0 {
			return time.Duration(math.Pow(bucketRatio, float64(bucket)))
		}
	}
	return 0
}
