package podman

import (
	"fmt"
	"slices"

	"github.com/nationtech/fleetctl/internal/wire"
)

// verb is the next thing to do about one service.
type verb int

const (
	settled verb = iota // nothing to do
	create
	start
	unpause
	rename
	replace // remove it, once what comes after is ready
	remove
	wait // Podman is at work on it
)

// action is a verb and the container that it is about.
type action struct {
	verb      verb
	container Container
}

// decide compares what should be with what is there. have are the containers
// that carry the service's labels. It is pure: one step at a time, each from a
// fresh look.
func decide(w *want, have []Container) action {
	if len(have) == 0 {
		if w == nil {
			return action{verb: settled}
		}
		return action{verb: create}
	}
	if w == nil {
		return removal(have[0])
	}
	best := slices.MaxFunc(have, func(a, b Container) int { return fitness(w, a) - fitness(w, b) })
	for _, c := range have {
		if c.ID != best.ID {
			return removal(c)
		}
	}
	switch {
	case differs(w, best):
		if a := removal(best); a.verb == wait {
			return a
		}
		return action{replace, best}
	case best.Name != w.name():
		return action{rename, best}
	}
	switch best.State.Status {
	case "running":
		return action{settled, best}
	case "paused":
		return action{unpause, best}
	case "stopping", "removing":
		return action{wait, best}
	case "created", "configured", "initialized":
		return action{start, best}
	case "exited", "stopped":
		if atEnd(w, best) {
			return action{settled, best}
		}
		return action{start, best}
	}
	return action{replace, best} // broken beyond what a start repairs
}

func removal(c Container) action {
	if c.State.Status == "removing" {
		return action{wait, c}
	}
	return action{remove, c}
}

// fitness orders containers that claim to be the same service.
func fitness(w *want, c Container) int {
	n := 0
	if !differs(w, c) {
		n += 4
	}
	if c.State.Status == "running" {
		n += 2
	}
	if c.Name == w.name() {
		n++
	}
	return n
}

func differs(w *want, c Container) bool { return c.Config.Labels[labelHash] != w.hash }

// atEnd says that an exited container is not to be started again.
func atEnd(w *want, c Container) bool {
	switch w.policy {
	case wire.RestartNo:
		return true
	case wire.RestartOnFailure:
		return c.State.ExitCode == 0 && !c.interrupted
	}
	return false
}

// exitText says how a container ended.
func exitText(c Container) string {
	text := fmt.Sprintf("exited with code %d", c.State.ExitCode)
	if c.State.OOMKilled {
		text += " (out of memory)"
	}
	if c.State.Error != "" {
		text += ": " + c.State.Error
	}
	return text
}
