package broker

import (
	"context"
	"crypto/tls"
	"runtime"
	"sync"
	"time"
)

// For each processor.
const (
	arriving = 2 // clients between their TLS handshake's begin and the callout's being asked about them
	deciding = 1 // decisions under way
)

// stay is the longest that a client is counted as arriving. It bounds what
// clients can do to others that shake hands and then say nothing: the rest still
// comes in at arriving/stay for each processor, 80 a second.
const stay = 25 * time.Millisecond

// admission lets clients in a few at a time, about in the order in which they
// came. When a whole fleet comes back at once there is work for every processor
// for seconds. Without this, all of it is begun at the same time: each handshake,
// each decision and each message of those who are in already waits for its
// turn among thousands, until clients give up and begin again.
type admission struct {
	places chan struct{} // one for each client that is arriving
	atOnce int           // decisions
	stay   time.Duration

	mu        sync.Mutex
	arriving  []*place // the oldest first; also some that left
	undecided int
	fewer     *sync.Cond // undecided is less than it was
}

// place is what one client holds.
type place struct {
	once sync.Once
	free func()
}

func newAdmission() *admission {
	procs := runtime.GOMAXPROCS(0)
	a := &admission{places: make(chan struct{}, arriving*procs), atOnce: deciding * procs, stay: stay}
	a.fewer = sync.NewCond(&a.mu)
	return a
}

// enter waits until the next client may shake hands.
func (a *admission) enter(ctx context.Context) error {
	select {
	case a.places <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	p := &place{free: func() { <-a.places }}
	defer context.AfterFunc(ctx, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.fewer.Broadcast()
	})()
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.undecided >= a.atOnce {
		if ctx.Err() != nil {
			p.leave()
			return context.Cause(ctx)
		}
		a.fewer.Wait()
	}
	time.AfterFunc(a.stay, func() { p.leave() })
	a.arriving = append(a.arriving, p)
	return nil
}

// leave gives the place to the next, and says whether that was not done before.
func (p *place) leave() (news bool) {
	p.once.Do(func() {
		news = true
		p.free()
	})
	return news
}

// asked notes that the callout is asked about a client. Which one cannot be told
// here, and does not matter: the oldest is as good.
func (a *admission) asked() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.undecided++
	for len(a.arriving) > 0 {
		p := a.arriving[0]
		a.arriving = a.arriving[1:]
		if p.leave() {
			return
		}
	}
}

func (a *admission) decided() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.undecided--
	a.fewer.Signal()
}

// paced gives a listener's configuration whose handshakes wait to be let in.
func (a *admission) paced(base *tls.Config) *tls.Config {
	out := base.Clone()
	out.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		return nil, a.enter(hello.Context())
	}
	return out
}
