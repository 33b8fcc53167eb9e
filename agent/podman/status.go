package podman

import (
	"context"
	"maps"
	"slices"

	"github.com/nationtech/fleetctl/internal/wire"
)

// observe records what a settled service looks like.
func (r *Runtime) observe(ctx context.Context, w *worker, target *want, c Container) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if target == nil {
		r.endCheckups(w)
		return
	}
	if about := target.edition(); w.about != about {
		w.about = about
		signal(r.changed) // also when the state is the same
	}
	if target.stopped {
		r.endCheckups(w)
		w.crashes, w.counted = 0, c.State.FinishedAt // which was on purpose
		r.put(w, wire.ServiceState{Name: w.key.service, Phase: wire.PhaseStopped, Message: stoppedByHand, ContainerID: c.ID, Image: target.spec.Image})
		return
	}
	s := wire.ServiceState{
		Name: w.key.service, Phase: wire.PhaseRunning,
		ContainerID: c.ID, Image: target.spec.Image, ImageDigest: c.ImageDigest,
	}
	if c.State.StartedAt.Unix() > 0 {
		at := c.State.StartedAt.UTC()
		s.StartedAt = &at
	}
	health := r.checkups(ctx, w, target, c)
	switch {
	case c.State.Status != "running" && c.State.ExitCode == 0:
		s.Phase, s.Message = wire.PhaseStopped, exitText(c.State)
	case c.State.Status != "running":
		s.Phase, s.Message, s.Reason = wire.PhaseFailed, exitText(c.State), exitReason(c.State)
	case w.loops(c):
		s.Phase = wire.PhaseFailed
		s.Reason, s.Message = w.looping(c)
		r.later(proving)
	case health != nil:
		s.Health = health.status
		switch health.status {
		case wire.HealthStarting:
			s.Phase, s.Message = wire.PhasePending, "running, and not healthy yet"
		case wire.HealthUnhealthy:
			s.Phase, s.Message, s.Reason = wire.PhaseFailed, wire.ClipMessage("unhealthy: "+health.problem), wire.ReasonUnhealthy
		}
	}
	r.put(w, s)
}

// progress records what is being done. A failure stays visible until the
// service is settled.
func (r *Runtime) progress(w *worker, phase wire.Phase, message string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w.state.Phase == wire.PhaseFailed && w.failures > 0 && phase == wire.PhasePending {
		return
	}
	r.setState(w, phase, message)
}

func (r *Runtime) setState(w *worker, phase wire.Phase, message string) {
	s := w.state
	s.Phase, s.Message, s.Reason, s.Health = phase, wire.ClipMessage(message), "", ""
	r.put(w, s)
}

// failed records why a service is not as it should be. r.mu is held.
func (r *Runtime) failed(w *worker, err error) {
	s := w.state
	s.Phase, s.Message, s.Reason, s.Health = wire.PhaseFailed, wire.ClipMessage(err.Error()), reasonOf(err), ""
	if s.Reason == "" && isFull(err) {
		s.Reason = wire.ReasonDiskFull
	}
	r.put(w, s)
}

func (r *Runtime) put(w *worker, s wire.ServiceState) {
	same := s.Phase == w.state.Phase && s.Reason == w.state.Reason && s.Message == w.state.Message && s.ContainerID == w.state.ContainerID &&
		s.ImageDigest == w.state.ImageDigest && s.Health == w.state.Health && (s.StartedAt == nil) == (w.state.StartedAt == nil) &&
		(s.StartedAt == nil || s.StartedAt.Equal(*w.state.StartedAt))
	entered := s.Phase != w.state.Phase
	w.state = s
	if !same {
		signal(r.changed)
	}
	if entered && (s.Phase == wire.PhaseRunning || s.Phase == wire.PhaseStopped) {
		r.later(0) // for services that wait for this one
	}
}

// States gives the state of every deployment that is desired or not gone yet,
// ordered by name. Since is for the caller to fill in.
func (r *Runtime) States() []wire.DeploymentState {
	r.mu.Lock()
	defer r.mu.Unlock()
	byName := map[string]*wire.DeploymentState{}
	for name, d := range r.deployments {
		s := &wire.DeploymentState{Name: name, UID: d.uid, Generation: d.generation}
		for _, k := range d.order {
			s.Services = append(s.Services, r.serviceState(k))
		}
		s.Phase, s.Message = summary(s.Services)
		if d.fault != nil {
			s.Phase, s.Message = wire.PhaseFailed, wire.ClipMessage(d.fault.Error())
		}
		byName[name] = s
	}
	for _, k := range slices.SortedFunc(maps.Keys(r.workers), compareKeys) {
		w := r.workers[k]
		if r.kept(k) || r.wanted(k) != nil {
			continue
		}
		leaving := w.state
		if leaving.Phase != wire.PhaseFailed {
			leaving.Phase = wire.PhaseRemoving
		}
		s := byName[k.deployment]
		if s == nil {
			s = &wire.DeploymentState{Name: k.deployment, UID: w.uid, Phase: wire.PhaseRemoving}
			byName[k.deployment] = s
		}
		s.Services = append(s.Services, leaving)
		if r.deployments[k.deployment] != nil {
			s.Phase, s.Message = summary(s.Services)
		} else if leaving.Phase == wire.PhaseFailed {
			s.Message = wire.ClipMessage("removing " + k.service + ": " + leaving.Message)
		}
	}
	out := make([]wire.DeploymentState, 0, len(byName))
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		out = append(out, *byName[name])
	}
	return out
}

func (r *Runtime) serviceState(k key) wire.ServiceState {
	s := wire.ServiceState{Name: k.service, Phase: wire.PhasePending, Message: "waiting"}
	if w := r.workers[k]; w != nil {
		s = w.state
		if s.Phase != wire.PhasePending && !w.known(r.wanted(k)) {
			s.Phase, s.Message = wire.PhasePending, "waiting"
		}
		if s.Phase == wire.PhaseRemoving {
			s.Phase = wire.PhasePending // the old one goes; the service stays
		}
	}
	if s.Phase == wire.PhasePending && r.fault != nil {
		s.Phase, s.Message = wire.PhaseFailed, wire.ClipMessage(r.fault.Error())
	}
	return s
}

// known says that a worker's state is about what is wanted now. That it runs is
// said of this edition only once it was looked at; a failure is one until it was
// tried again.
func (w *worker) known(target *want) bool {
	if w.target != "" && w.target != hashOf(target) {
		return false
	}
	switch w.state.Phase {
	case wire.PhaseRunning, wire.PhaseStopped:
		return target == nil || w.about == target.edition()
	default:
		return true
	}
}

// summary is the phase of a deployment: the worst of its services', and the
// message of the first that has it.
func summary(services []wire.ServiceState) (wire.Phase, string) {
	order := []wire.Phase{wire.PhaseFailed, wire.PhasePending, wire.PhaseRemoving, wire.PhaseRunning, wire.PhaseStopped}
	for _, phase := range order {
		i := slices.IndexFunc(services, func(s wire.ServiceState) bool { return s.Phase == phase })
		if i < 0 {
			continue
		}
		if phase == wire.PhaseRemoving {
			phase = wire.PhasePending
		}
		message := services[i].Message
		if message != "" && phase != wire.PhaseRunning {
			message = services[i].Name + ": " + message
		}
		return phase, wire.ClipMessage(message)
	}
	return wire.PhasePending, ""
}

func compareKeys(a, b key) int {
	if a.String() < b.String() {
		return -1
	}
	if a == b {
		return 0
	}
	return 1
}
