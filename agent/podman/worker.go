package podman

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/wire"
)

const (
	firstRetry = time.Second
	lastRetry  = 5 * time.Minute
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
	exists    bool // a container was there at the last look
	uid       string
	target    string // hash that failures and notBefore are about
	failures  int
	notBefore time.Time
	state     wire.ServiceState
	made      string // container that was made and not looked at yet
	watched   int    // process whose end is being waited for
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
		w.notBefore = time.Now().Add(delay)
		r.setState(w, wire.PhaseFailed, err.Error())
		r.log.Warn("service failed", "deployment", w.key.deployment, "service", w.key.service,
			"error", err, "hint", hint.Of(err), "retry_in", delay.Round(time.Second))
		r.later(delay)
	default:
		w.failures, w.notBefore = 0, time.Time{}
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
		have, err := r.look(ctx, w.key)
		if err != nil {
			return err
		}
		r.mu.Lock()
		target := r.wanted(w.key)
		kept := r.kept(w.key)
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
		if act.verb == start && started {
			return fmt.Errorf("%s right after its start", exitText(act.container))
		}
		started = started || act.verb == start
		if act.verb == settled {
			r.observe(ctx, w, target, act.container)
			r.watch(ctx, w, act.container.State.PID)
			return errors.Join(r.noteRun(target, act.container), r.tidy(w.key, target, len(have) > 0))
		}
		if err := r.do(ctx, w, target, act); err != nil {
			return err
		}
	}
	return errWait
}

// compareWith gives what containers of the service are compared with.
func (r *Runtime) compareWith(ctx context.Context, w *worker, target *want, have []Container) (reality, error) {
	if target == nil || target.stopped || len(have) == 0 {
		return reality{}, nil
	}
	res, known, err := r.resolved(ctx, target, have)
	if err == nil && !known && target.pull == wire.PullAlways {
		if _, err = r.ensureImage(ctx, w, target); err == nil {
			res, known, err = r.resolved(ctx, target, have)
		}
	}
	if err != nil || !known {
		return reality{}, err
	}
	image, err := r.config(ctx, res.ID)
	return reality{resolution: &res, image: image, accepted: r.images.Accepted}, err
}

// config is what an image says of its containers; nil when it is not on the
// device. It never changes, so it is asked for once.
func (r *Runtime) config(ctx context.Context, id string) (*Image, error) {
	r.mu.Lock()
	cached := r.configs[id]
	r.mu.Unlock()
	if cached != nil {
		return cached, nil
	}
	image, found, err := r.client.InspectImage(ctx, id)
	if err != nil || !found {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.configs[id] = &image
	return &image, nil
}

// accept takes for good in what a container differs that was just made. Making
// it again would end the same, again and again.
func (r *Runtime) accept(w *worker, act action) error {
	if slices.Contains(act.why, "image") {
		return fmt.Errorf("container %s was made, and its image is not what was asked for", short(act.container.ID))
	}
	r.log.Warn("this Podman gives a container back otherwise than it was asked for", "deployment", w.key.deployment,
		"service", w.key.service, "container", short(act.container.ID), "differs_in", strings.Join(act.why, ", "))
	return r.images.Accept(act.container.ID, act.why)
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

// look gives the containers that carry the labels of k.
func (r *Runtime) look(ctx context.Context, k key) ([]Container, error) {
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
			out = append(out, c)
		}
	}
	return out, nil
}

// do carries out one action. What it acts on was looked at just before, by an
// id, which is never used twice.
func (r *Runtime) do(ctx context.Context, w *worker, target *want, act action) error {
	c := act.container
	if act.verb == create || act.verb == start || act.verb == replace {
		if by := r.blocked(target); by != "" {
			r.progress(w, wire.PhasePending, "waiting for "+by)
			return errBlocked
		}
	}
	switch act.verb {
	case create:
		return r.create(ctx, w, target)
	case halt:
		r.progress(w, wire.PhasePending, "stopping")
		return r.client.Stop(ctx, c.ID, stopTimeoutOf(c))
	case start:
		r.progress(w, wire.PhasePending, "starting")
		return r.step(ctx, func() error { return r.start(ctx, target, c) })
	case unpause:
		return r.step(ctx, func() error { return r.client.Unpause(ctx, c.ID) })
	case rename:
		if err := r.nameIsFree(ctx, w.key); err != nil {
			return err
		}
		return r.step(ctx, func() error { return r.client.Rename(ctx, c.ID, target.name()) })
	case replace:
		// The old one goes only when the new one can be made: a failed pull
		// leaves it running.
		if _, err := r.ensureImage(ctx, w, target); err != nil {
			return err
		}
		r.log.Info("container is to be replaced", "deployment", w.key.deployment, "service", w.key.service,
			"container", short(c.ID), "differs_in", strings.Join(act.why, ", "))
		return r.remove(ctx, w, c)
	case remove:
		return r.remove(ctx, w, c)
	}
	return errWait
}

func (r *Runtime) create(ctx context.Context, w *worker, target *want) error {
	if err := r.nameIsFree(ctx, w.key); err != nil {
		return err
	}
	image, err := r.ensureImage(ctx, w, target)
	if err != nil {
		return err
	}
	r.progress(w, wire.PhasePending, "creating")
	return r.step(ctx, func() error {
		spec, err := r.complete(ctx, target, image)
		if err != nil {
			return err
		}
		id, err := r.client.Create(ctx, spec)
		if hasStatus(err, http.StatusConflict) {
			return r.nameIsFree(ctx, w.key) // it was not when it came to it
		}
		if err != nil {
			return err
		}
		w.made = id
		r.log.Info("container created", "deployment", w.key.deployment, "service", w.key.service,
			"container", short(id), "image", target.spec.Image)
		return nil
	})
}

// nameIsFree refuses a name that a container has which is not this service's.
func (r *Runtime) nameIsFree(ctx context.Context, k key) error {
	found, c, err := r.client.Inspect(ctx, k.name())
	if err != nil || !found {
		return err
	}
	other, ours := keyOf(c.Config.Labels)
	switch {
	case ours && other == k:
		return errWait // made since the last look
	case ours:
		return hint.New(fmt.Sprintf("container name %s is taken by service %s", k.name(), other),
			"rename one of the two services")
	}
	return hint.New(fmt.Sprintf("container %s (%s) exists and is not managed by the fleet; it is left alone", k.name(), short(c.ID)),
		"podman rename it, or podman rm it, as the agent's user")
}

// complete is the specification with what depends on this device: its network,
// the image that the reference stands for, and where secrets are.
func (r *Runtime) complete(ctx context.Context, target *want, image Image) (Spec, error) {
	spec := target.spec
	if err := target.material.write(); err != nil {
		return spec, err
	}
	if target.material.env {
		argv := argvOf(target, &image)
		spec.Entrypoint, spec.Command = argv[:4], argv[4:]
	}
	named, found, err := r.client.InspectImage(ctx, spec.Image)
	if err != nil {
		return spec, err
	}
	if !found || bareID(named.ID) != bareID(image.ID) {
		spec.Image = bareID(image.ID) // the tag stands for another one by now
	}
	if spec.NetNS != nil {
		return spec, nil
	}
	return r.network(ctx, spec)
}

func (r *Runtime) start(ctx context.Context, target *want, c Container) error {
	if err := target.material.write(); err != nil { // a reboot emptied the memory
		return err
	}
	if err := r.client.Start(ctx, c.ID); err != nil {
		return startFault(err)
	}
	r.log.Info("container started", "deployment", target.deployment, "service", target.service, "container", short(c.ID))
	return nil
}

// startFault names what the runtime says in its own terms.
func startFault(err error) error {
	text := err.Error()
	for what, signs := range map[string][]string{
		"memory": {"memory.max", "controller `memory`"},
		"cpu":    {"cpu.max", "controller `cpu`"},
	} {
		for _, sign := range signs {
			if strings.Contains(text, sign) {
				return hint.Wrap(fmt.Errorf("limits cannot be set, since this device does not let its users limit %s: %w", what, err),
					"fleetctl onboard the device again, or see /sys/fs/cgroup/cgroup.controllers and Delegate= of user@.service")
			}
		}
	}
	return err
}

// noteRun remembers what a reboot would blur, for the one policy to which it
// matters whether a container came to its end by itself.
func (r *Runtime) noteRun(target *want, c Container) error {
	if target == nil || target.policy != wire.RestartOnFailure {
		return nil
	}
	if c.State.Status == "running" {
		return r.runs.Started(c.ID)
	}
	return r.runs.Ended(c.ID)
}

// watch has a pass made as soon as the process ends.
func (r *Runtime) watch(ctx context.Context, w *worker, pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if pid == 0 || w.watched == pid {
		return
	}
	w.watched = pid
	go func() {
		err := awaitExit(ctx, pid)
		r.mu.Lock()
		defer r.mu.Unlock()
		if w.watched == pid {
			w.watched = 0
		}
		switch {
		case err == nil:
			r.later(exitSettles)
		case errors.Is(err, errExited):
			r.later(waitRetry)
		case ctx.Err() == nil:
			r.log.Debug("a container's end is noticed at the next tick only", "service", w.key.String(), "error", err)
		}
	}()
}

// remove stops a container, however long that takes, and deletes it.
func (r *Runtime) remove(ctx context.Context, w *worker, c Container) error {
	r.progress(w, wire.PhaseRemoving, "stopping")
	if err := r.client.Stop(ctx, c.ID, stopTimeoutOf(c)); err != nil {
		return err
	}
	return r.step(ctx, func() error {
		if err := r.client.Remove(ctx, c.ID); err != nil {
			return err
		}
		r.log.Info("container removed", "deployment", w.key.deployment, "service", w.key.service, "container", short(c.ID))
		r.hurry()
		return errors.Join(r.runs.Forget(c.ID), r.images.Accept(c.ID, nil))
	})
}

// stopTimeoutOf is what the container was made with, which is what its program
// was promised.
func stopTimeoutOf(c Container) time.Duration {
	if c.Config.StopTimeout == nil {
		return wire.DefaultStopTimeout
	}
	return time.Duration(*c.Config.StopTimeout) * time.Second
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
