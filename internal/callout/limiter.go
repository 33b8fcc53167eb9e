package callout

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// A device may connect connectBurst times at once, and once every
	// connectEvery in the long run. A bad link stays below; two machines
	// that share an id, or a broken agent, do not.
	connectBurst = 10
	connectEvery = 3 * time.Second
	// Refusals are logged once every quietEvery for an address, after the
	// first quietBurst, so that guessing does not fill the log.
	quietBurst = 20
	quietEvery = time.Second
	// maxTracked bounds memory. What is dropped first is what is idle,
	// which changes nothing.
	maxTracked = 64 << 10
)

// limiter has a token bucket for each device and for each address.
type limiter struct {
	mu       sync.Mutex
	connects map[string]*rate.Limiter
	refusals map[string]*rate.Limiter
}

func newLimiter() *limiter {
	return &limiter{connects: map[string]*rate.Limiter{}, refusals: map[string]*rate.Limiter{}}
}

// allow spends one connect of the device.
func (l *limiter) allow(device string, now time.Time) bool {
	return take(l, l.connects, device, now, connectEvery, connectBurst)
}

// quiet says whether a refusal of this address is one too many to log.
func (l *limiter) quiet(host string, now time.Time) bool {
	return !take(l, l.refusals, host, now, quietEvery, quietBurst)
}

func take(l *limiter, m map[string]*rate.Limiter, key string, now time.Time, every time.Duration, burst int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := m[key]
	if b == nil {
		if len(m) >= maxTracked {
			dropIdle(m, now, burst)
		}
		b = rate.NewLimiter(rate.Every(every), burst)
		m[key] = b
	}
	return b.AllowN(now, 1)
}

// dropIdle forgets buckets that are full again: a new one would be the same.
// When all are in use the map is emptied, which is lenient for a moment.
func dropIdle(m map[string]*rate.Limiter, now time.Time, burst int) {
	for key, b := range m {
		if b.TokensAt(now) >= float64(burst) {
			delete(m, key)
		}
	}
	if len(m) >= maxTracked {
		clear(m)
	}
}
