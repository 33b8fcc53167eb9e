package podman

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/wire"
)

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
		r.repaired.Add(1)
		return r.step(ctx, func() error { return r.client.Unpause(ctx, c.ID) })
	case rename:
		if err := r.nameIsFree(ctx, w.key); err != nil {
			return err
		}
		r.repaired.Add(1)
		return r.step(ctx, func() error { return r.client.Rename(ctx, c.ID, target.name()) })
	case replace:
		// The old one goes only when the new one can be made: a failed pull
		// leaves it running.
		if _, err := r.ensureImage(ctx, w, target); err != nil {
			return err
		}
		r.log.Info("container is to be replaced", "deployment", w.key.deployment, "service", w.key.service,
			"container", short(c.ID), "differs_in", strings.Join(act.why, ", "))
		if !slices.Contains(act.why, "specification") {
			r.repaired.Add(1)
		}
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
		r.created.Add(1)
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
		return because(wire.ReasonNameTaken, hint.New(fmt.Sprintf("container name %s is taken by service %s", k.name(), other),
			"rename one of the two services"))
	}
	return because(wire.ReasonNameTaken, hint.New(fmt.Sprintf("container %s (%s) exists and is not managed by the fleet; it is left alone", k.name(), short(c.ID)),
		"podman rename it, or podman rm it, as the agent's user"))
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
	r.started.Add(1)
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
