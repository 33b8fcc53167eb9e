package podman

import (
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
	halt // stop it, and keep it
	wait // Podman is at work on it
)

// action is a verb and the container that it is about.
type action struct {
	verb      verb
	container Container
	why       []string // in what it differs; of replace
}

// decide compares what should be with what is there. have are the containers
// that carry the service's labels. It is pure: one step at a time, each from a
// fresh look.
func decide(w *want, with reality, have []Container) action {
	if w != nil && w.stopped {
		return stopped(have)
	}
	if len(have) == 0 {
		if w == nil {
			return action{verb: settled}
		}
		return action{verb: create}
	}
	if w == nil {
		return removal(have[0])
	}
	best := slices.MaxFunc(have, func(a, b Container) int { return fitness(w, with, a) - fitness(w, with, b) })
	for _, c := range have {
		if c.ID != best.ID {
			return removal(c)
		}
	}
	if why := with.drift(w, best); len(why) > 0 {
		if a := removal(best); a.verb == wait {
			return a
		}
		return action{replace, best, why}
	}
	if best.Name != w.name() {
		return action{verb: rename, container: best}
	}
	switch best.State.Status {
	case "running":
		return action{verb: settled, container: best}
	case "paused":
		return action{verb: unpause, container: best}
	case "stopping", "removing":
		return action{verb: wait, container: best}
	case "created", "configured", "initialized":
		return action{verb: start, container: best}
	case "exited", "stopped":
		if atEnd(w, best) {
			return action{verb: settled, container: best}
		}
		return action{verb: start, container: best}
	}
	return action{verb: replace, container: best} // broken beyond what a start repairs
}

func removal(c Container) action {
	if c.State.Status == "removing" {
		return action{verb: wait, container: c}
	}
	return action{verb: remove, container: c}
}

// fitness orders containers that claim to be the same service.
func fitness(w *want, with reality, c Container) int {
	n := 0
	if len(with.drift(w, c)) == 0 {
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

// stopped leaves everything as it is, as long as nothing runs.
func stopped(have []Container) action {
	for _, c := range have {
		switch c.State.Status {
		case "running", "paused":
			return action{verb: halt, container: c}
		case "stopping", "removing":
			return action{verb: wait, container: c}
		}
	}
	if len(have) == 0 {
		return action{verb: settled}
	}
	return action{verb: settled, container: have[0]}
}

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
