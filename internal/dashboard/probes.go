package dashboard

import (
	"context"
	"sync"
	"time"

	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
)

const (
	// probeEvery is how long after its last answer a device that somebody
	// looks at is asked again.
	probeEvery = 1500 * time.Millisecond
	// probeForget is when a device that nobody looks at any more is forgotten.
	probeForget = 10 * time.Second
)

// prober knows of the devices that somebody looks at whether they answer. That
// a cable was pulled the server hears of much later.
type prober struct {
	ask func(ctx context.Context, device string) (api.Ping, error)

	mu sync.Mutex
	of map[string]*probed
}

type probed struct {
	asking   bool
	ended    time.Time // of the last probe; zero before
	answered time.Time // when it last answered
	silent   bool      // the last probe had no answer
}

// look says since when a device does not answer: zero when it does, or when
// that is not known. It never waits, and has the device asked.
func (p *prober) look(ctx context.Context, device string) (silentSince time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of == nil {
		p.of = map[string]*probed{}
	}
	d := p.of[device]
	if d == nil {
		d = &probed{}
		p.of[device] = d
	}
	if !d.asking && time.Since(d.ended) >= probeEvery {
		d.asking = true
		// It has a time limit of its own, and does for those who look later.
		go p.run(context.WithoutCancel(ctx), device, d)
	}
	if d.silent {
		return d.answered
	}
	return time.Time{}
}

func (p *prober) run(ctx context.Context, device string, d *probed) {
	began := time.Now()
	_, err := p.ask(ctx, device)
	p.mu.Lock()
	defer p.mu.Unlock()
	d.asking, d.ended = false, time.Now()
	d.silent = apiclient.Code(err) == api.CodeDeviceNoAnswer
	switch {
	case err == nil:
		d.answered = d.ended
	case d.answered.IsZero():
		d.answered = began // it has not since then, at least
	}
	time.AfterFunc(probeForget, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !d.asking && time.Since(d.ended) >= probeForget && p.of[device] == d {
			delete(p.of, device)
		}
	})
}
