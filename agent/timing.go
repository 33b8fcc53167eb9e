package agent

import (
	"math/rand/v2"
	"time"
)

// jittered is d, give or take a tenth: a fleet that was switched on together
// does not speak together for ever.
func jittered(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1)
}

// backoff says when to try again after failures in a row.
type backoff struct {
	first, last time.Duration
	failures    int
}

// after gives a channel that receives when it is time to try again. Without an
// error there is nothing to retry: the channel is nil, and counting starts
// anew.
func (b *backoff) after(err error) <-chan time.Time {
	if err == nil {
		b.failures = 0
		return nil
	}
	d := b.last
	if b.failures < 16 {
		d = min(b.last, b.first<<b.failures)
	}
	b.failures++
	return time.After(d/2 + rand.N(d/2+1))
}
