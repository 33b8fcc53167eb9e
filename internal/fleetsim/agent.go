package fleetsim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/wire"
)

// lookEvery is an agent's slow timer.
const lookEvery = 5 * time.Second

// agent is a played device with an agent's loop: it looks when it is hinted, when
// it connected, and now and then; it reports what it runs until that is
// acknowledged. What it was told outlives it.
type agent struct {
	*device
	soak  *soak
	ended sync.WaitGroup

	mu        sync.Mutex
	enrolment api.Enrolment
	cancel    context.CancelFunc
	wake      chan struct{}
	skew      time.Duration // of its clock
	leaving   bool          // it is being off-boarded: it stops all
	fault     error         // the first thing that it did without cause
	// newest is the newest generation of each object, by name and uid, that it has started.
	newest map[string]int64
}

func newAgent(s *soak, d *device) *agent {
	a := &agent{device: d, soak: s, wake: make(chan struct{}, 1), newest: map[string]int64{}}
	d.steady, d.accepted, d.now = true, a.check, a.clock
	return a
}

func (a *agent) clock() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return time.Now().Add(a.skew).UTC()
}

func (a *agent) jump(by time.Duration) {
	a.mu.Lock()
	a.skew = by
	a.mu.Unlock()
	a.poke()
}

func (a *agent) poke() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// check looks at what an agent would do with a manifest that it has taken.
func (a *agent) check(before, after map[string]*job) {
	a.mu.Lock()
	defer a.mu.Unlock()
	fail := func(format string, args ...any) {
		if a.fault == nil {
			a.fault = fmt.Errorf("device %s "+format, append([]any{a.id}, args...)...)
		}
	}
	for name, j := range after {
		key := name + "/" + j.uid
		if old := before[name]; old != nil && old.hash == j.hash {
			continue
		}
		if last := a.newest[key]; j.generation <= last {
			fail("starts generation %d of %s again, after %d", j.generation, name, last)
		}
		a.newest[key] = j.generation
	}
	for name := range before {
		if _, wasDeleted := a.soak.gone.Load(name); after[name] == nil && !wasDeleted && !a.leaving {
			fail("stops %s, which nobody deleted", name)
		}
	}
}

// wipe is another machine in the place of this one.
func (a *agent) wipe() {
	a.device.mu.Lock()
	a.revision, a.work, a.behind = 0, map[string]*job{}, false
	a.device.mu.Unlock()
	a.mu.Lock()
	a.newest, a.leaving = map[string]int64{}, false
	a.mu.Unlock()
}

// leave says that it is being off-boarded.
func (a *agent) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.leaving = true
}

func (a *agent) enrol(ctx context.Context) error {
	e, err := a.device.enrol(ctx)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.enrolment = e
	return nil
}

func (a *agent) up() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.link != nil && a.link.Up()
}

// start runs the agent until it is stopped, or running ends.
func (a *agent) start(running context.Context) {
	ctx, cancel := context.WithCancel(running)
	a.mu.Lock()
	a.cancel = cancel
	enrolment := a.enrolment
	a.mu.Unlock()
	a.ended.Go(func() { a.run(ctx, enrolment) })
}

// stop kills it: its connection ends, and nothing is said.
func (a *agent) stop() {
	a.mu.Lock()
	cancel := a.cancel
	a.mu.Unlock()
	cancel()
	a.ended.Wait()
}

func (a *agent) run(ctx context.Context, e api.Enrolment) {
	l, err := a.open(ctx, e, a.poke)
	if err != nil {
		a.mu.Lock()
		a.fault = errors.Join(a.fault, err)
		a.mu.Unlock()
		return
	}
	a.mu.Lock()
	a.link = l
	a.mu.Unlock()
	defer func() {
		closing, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = l.Close(closing) // it is a kill
	}()
	if err := l.Subscribe(wire.HintSubject(a.id), func(string, []byte) { a.poke() }); err != nil {
		return
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		case <-tick.C:
		}
		if !l.Up() {
			continue
		}
		again, looked := a.look(ctx)
		if err := errors.Join(a.introduce(ctx), looked, a.report(ctx)); (again || err != nil) && ctx.Err() == nil {
			time.AfterFunc(time.Second, a.poke)
		}
	}
}

// problem is what it did wrong, or has yet to do.
func (a *agent) problem() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.fault
}

// runs lists what it runs.
func (a *agent) runs() string {
	a.device.mu.Lock()
	defer a.device.mu.Unlock()
	var out []string
	for name, j := range a.work {
		out = append(out, fmt.Sprintf("%s generation %d", name, j.generation))
	}
	return strings.Join(out, ", ")
}
