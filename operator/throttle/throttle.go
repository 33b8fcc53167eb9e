// Package throttle limits the rate of calls to a server by how the server
// takes them: additive increase while it answers quickly, multiplicative
// decrease when it says that it has too much to do (AIMD, RFC 5681 section 3.1
// for the idea), and a gentle one when it is slow: on a machine that is short of
// processors everything is slow, and calling less makes nothing faster.
package throttle

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limits of the rate, in calls per second.
const (
	initial = 100
	least   = 2  // for a server that says it has too much to do
	steady  = 50 // for one that is merely slow
	most    = 1000
	step    = 2 // added per quick answer
)

const (
	slow     = time.Second // an answer that takes longer is a sign of strain
	cooldown = time.Second // between two decreases: one overload is one signal
)

// Limiter is safe for concurrent use.
type Limiter struct {
	overloaded func(error) bool
	now        func() time.Time

	bucket *rate.Limiter

	mu      sync.Mutex
	reduced time.Time     // when the rate was last decreased
	usual   time.Duration // of an answer, of late
}

// New gives a limiter. overloaded says whether an error means that the server
// has too much to do; now is the clock.
func New(overloaded func(error) bool, now func() time.Time) *Limiter {
	return &Limiter{overloaded: overloaded, now: now, bucket: rate.NewLimiter(initial, step)}
}

// Do waits for its turn and calls fn. The error is fn's, or ctx's.
func (l *Limiter) Do(ctx context.Context, fn func(context.Context) error) error {
	if err := l.bucket.Wait(ctx); err != nil {
		return err
	}
	start := l.now()
	err := fn(ctx)
	l.observe(l.now().Sub(start), err)
	return err
}

// Rate is the present limit in calls per second.
func (l *Limiter) Rate() float64 { return float64(l.bucket.Limit()) }

// quick is an answer of a server that has nothing else to do; memory is how many
// answers the usual one is made of.
const (
	quick  = 10 * time.Millisecond
	memory = 32
)

// Ease is 1 while the server answers quickly, and less the longer its answers
// take: half of it for twice the time. It is for work that may as well be done
// less often: on a machine that is busy with something else, that something
// matters more.
func (l *Limiter) Ease() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return min(1, float64(quick)/float64(max(l.usual, 1)))
}

func (l *Limiter) observe(took time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.usual += (took - l.usual) / memory
	rate := l.bucket.Limit()
	switch overload := err != nil && (l.overloaded(err) || errors.Is(err, context.DeadlineExceeded) || os.IsTimeout(err)); {
	case !overload && took <= slow:
		l.bucket.SetLimit(min(most, rate+step))
	case l.now().Sub(l.reduced) < cooldown:
	case overload:
		l.reduced = l.now()
		l.bucket.SetLimit(max(least, rate/2))
	default:
		l.reduced = l.now()
		l.bucket.SetLimit(max(min(steady, rate), rate*9/10))
	}
}
