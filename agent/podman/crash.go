package podman

import (
	"fmt"
	"time"

	"github.com/nationtech/fleetctl/internal/wire"
)

// crashLoop is how many short runs in a row are one. A single short run may be
// a person's doing.
const crashLoop = 2

// noteEnd counts runs that ended soon after they began, before such a container
// is started again. Podman counts those that it started itself; where cleaning
// up takes it longer than a pass takes us, as on a small board, we are first.
// Of the runs of a crash loop each is an error once, so that the next start waits.
func (r *Runtime) noteEnd(w *worker, c Container) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := c.State
	if s.FinishedAt.Equal(w.counted) {
		return nil // that one has been waited for, or the container never ran
	}
	w.counted, w.end = s.FinishedAt, &end{c.ID, s}
	if c.interrupted || s.FinishedAt.Sub(s.StartedAt) >= proving {
		w.crashes = 0
		return nil
	}
	if w.crashes++; w.crashes < crashLoop {
		return nil
	}
	reason, text := w.looping(c)
	return because(reason, fmt.Errorf("%s", text))
}

// loops says whether a running container is one that keeps exiting, as far as
// can be told yet. r.mu is held.
func (w *worker) loops(c Container) bool {
	if time.Since(c.State.StartedAt) >= proving {
		w.crashes = 0
		return false
	}
	return c.RestartCount > 0 || w.crashes >= crashLoop
}

// looping describes a crash loop. r.mu is held.
func (w *worker) looping(c Container) (wire.Reason, string) {
	text := fmt.Sprintf("keeps exiting; restarted %d times", max(c.RestartCount, w.crashes))
	if w.end == nil || w.end.container != c.ID {
		return wire.ReasonCrashLoop, text
	}
	text += "; the last time it " + exitText(w.end.state)
	if w.end.state.OOMKilled {
		return wire.ReasonOutOfMemory, text
	}
	return wire.ReasonCrashLoop, text
}
