package podman

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/wire"
)

const (
	firstRetry = time.Second
	lastRetry  = 5 * time.Minute
	// fullRetry is the most on a full disk: trying costs little, and it may be
	// a person who makes room and waits.
	fullRetry = 10 * time.Second
	// waitRetry is when to look again at what Podman itself is at work on.
	waitRetry = time.Second
	// exitSettles is what Podman needs to record that a container ended.
	exitSettles = 200 * time.Millisecond
	// proving is how long a container that Podman restarted has to run before
	// it is taken for running.
	proving = 10 * time.Second
	// stepLimit ends a run that does not settle; the next pass goes on.
	stepLimit = 12
)

// worker brings one service to what it should be. All fields are guarded by
// Runtime.mu.
type worker struct {
	key       key
	busy      bool
	look      bool // something changed while busy
	held      bool // a person restarts it: nothing is done meanwhile
	exists    bool // a container was there at the last look
	uid       string
	target    string // hash that failures and notBefore are about
	failures  int
	notBefore time.Time
	state     wire.ServiceState
	about     edition   // what state was found of
	made      string    // container that was made and not looked at yet
	watched   int       // process whose end is being waited for
	end       *end      // the last that was seen of one of its containers
	crashes   int       // runs in a row that ended soon after they began
	counted   time.Time // the end of the last of them
	ranOut    time.Time // the last end that was for want of memory, but for marked
	marked    marked    // the first end of a container that was, by Podman's
	health    *checkup
}

// errWait ends a run that can go on only later.
var errWait = errors.New("waiting for Podman")

// errBlocked ends a run until a service that it depends on is up, which has a
// pass made.
var errBlocked = errors.New("waiting for another service")

// run works on one service until it is settled or fails.
func (r *Runtime) run(ctx context.Context, w *worker) {
	err := r.settle(ctx, w)
	r.mu.Lock()
	defer r.mu.Unlock()
	w.busy = false
	switch {
	case ctx.Err() != nil:
		return // interrupted, which says nothing about the service
	case errors.Is(err, errWait):
		r.later(waitRetry)
	case errors.Is(err, errBlocked):
	case err != nil:
		w.failures++
		delay := retryDelay(w.failures)
		if isFull(err) {
			delay = min(delay, fullRetry)
		}
		w.notBefore = time.Now().Add(delay)
		r.failed(w, err)
		r.log.Warn("service failed", "deployment", w.key.deployment, "service", w.key.service,
			"error", err, "hint", hint.Of(err), "retry_in", delay.Round(time.Second))
		r.later(delay)
	default:
		w.notBefore = time.Time{}
		if w.crashes < crashLoop {
			w.failures = 0
		}
		if r.wanted(w.key) == nil && !w.exists {
			r.endCheckups(w)
			delete(r.workers, w.key)
			signal(r.changed)
		}
	}
	if w.look {
		r.later(0)
	}
}

func retryDelay(failures int) time.Duration {
	d := lastRetry
	if failures < 10 {
		d = min(lastRetry, firstRetry<<(failures-1))
	}
	return d/2 + rand.N(d/2+1)
}

// later asks for a pass after d.
func (r *Runtime) later(d time.Duration) { time.AfterFunc(d, func() { signal(r.again) }) }

// settle repeats look, decide, act.
func (r *Runtime) settle(ctx context.Context, w *worker) error {
	started := false
	for range stepLimit {
		have, err := r.look(ctx, w)
		if err != nil {
			return err
		}
		r.mu.Lock()
		target := r.wanted(w.key)
		kept := r.kept(w.key) || w.held
		w.exists = len(have) > 0
		r.mu.Unlock()
		if kept {
			return nil
		}
		with, err := r.compareWith(ctx, w, target, have)
		if err != nil {
			return err
		}
		act := decide(target, with, have)
		if act.container.ID != "" && act.container.ID == w.made {
			w.made = "" // the first look at it
			if act.verb == replace && !slices.Contains(act.why, "specification") {
				if err := r.accept(w, act); err != nil {
					return err
				}
				continue
			}
		}
		if act.verb == start && !started {
			if err := r.noteEnd(w, act.container); err != nil {
				return err
			}
		}
		if act.verb == start && started {
			return because(exitReason(act.container.State), fmt.Errorf("%s right after its start", exitText(act.container.State)))
		}
		started = started || act.verb == start
		if act.verb == settled {
			r.observe(ctx, w, target, act.container)
			r.watch(ctx, w, act.container)
			return errors.Join(r.noteRun(target, act.container), r.tidy(w.key, target, len(have) > 0))
		}
		if err := r.do(ctx, w, target, act); err != nil {
			return err
		}
	}
	return errWait
}

// tidy forgets what is no longer needed of a settled service.
func (r *Runtime) tidy(k key, target *want, exists bool) error {
	if target != nil {
		return r.vault.sweep(k, target.material.dir)
	}
	if exists {
		return nil
	}
	return errors.Join(r.vault.sweep(k, ""), r.images.Unresolve(k.String()), r.intents.SetStopped(k.String(), false))
}

// blocked says which service has to be up before this one starts.
func (r *Runtime) blocked(target *want) (by string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range target.dependsOn {
		dependency := r.wanted(k)
		w := r.workers[k]
		if dependency == nil {
			continue
		}
		up := w != nil && w.target == dependency.hash && !dependency.stopped &&
			(w.state.Phase == wire.PhaseRunning || w.state.Phase == wire.PhaseStopped)
		if !up {
			return k.service
		}
	}
	return ""
}

// look gives the containers that carry the labels of w's service.
func (r *Runtime) look(ctx context.Context, w *worker) ([]Container, error) {
	k := w.key
	list, err := r.client.List(ctx, labelManaged+"=true", labelDeployment+"="+k.deployment, labelService+"="+k.service)
	if err != nil {
		return nil, err
	}
	var out []Container
	for _, s := range list {
		found, c, err := r.client.Inspect(ctx, s.ID)
		if err != nil {
			return nil, err
		}
		if got, ours := keyOf(c.Config.Labels); found && ours && got == k {
			c.interrupted = r.runs.Interrupted(c.ID)
			c.State.OOMKilled = r.ranOut(w, c)
			out = append(out, c)
		}
	}
	return out, nil
}

// hurry lets services that failed try again at once: what was removed may have
// held the port or the name that they need.
func (r *Runtime) hurry() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.workers {
		w.notBefore = time.Time{}
	}
	r.later(0)
}

// step runs f when one of the places for short work is free.
func (r *Runtime) step(ctx context.Context, f func() error) error {
	release, err := acquire(ctx, r.steps)
	if err != nil {
		return err
	}
	defer release()
	return f()
}

func acquire(ctx context.Context, places chan struct{}) (release func(), err error) {
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
