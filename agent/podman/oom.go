package podman

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	// killedCode is how a container ends whose first process gets SIGKILL.
	killedCode = 128 + int(syscall.SIGKILL)
	// dying is what a large process may need to be gone after it was killed.
	dying = 10 * time.Second
	// oomsKept are more than come between two looks at a container that ended.
	oomsKept = 64
)

// oomKills knows when the kernel killed processes for want of memory, from the
// memory.events (cgroup-v2, "Memory") of a cgroup that all containers are below.
// Of a container's own cgroup nothing may be left by the time that conmon asks,
// and then Podman does not notice; but its kills are also counted in every cgroup
// above it, before the signal is sent. It is read at each pass, so a kill is known
// to the time between two of them.
type oomKills struct {
	file string // "" when there is none

	mu     sync.Mutex
	looked time.Time // when count was read; zero while it is not known
	count  uint64
	ooms   []between
}

type between struct{ after, until time.Time }

// look notes whether there were kills since the last look.
func (o *oomKills) look() {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	count, known := o.read()
	if !known {
		// Before the user's own systemd is there, or without the controller.
		o.looked = time.Time{}
		return
	}
	if !o.looked.IsZero() && count > o.count {
		o.ooms = append(o.ooms, between{o.looked, time.Now()})
		o.ooms = o.ooms[max(0, len(o.ooms)-oomsKept):]
	}
	o.looked, o.count = now, count
}

func (o *oomKills) read() (count uint64, known bool) {
	data, err := os.ReadFile(o.file)
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(data) {
		if value, ok := bytes.CutPrefix(line, []byte("oom_kill ")); ok {
			count, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 64)
			return count, err == nil
		}
	}
	return 0, false
}

// explain says whether there was a kill shortly before the end, and whether that
// is known at all.
func (o *oomKills) explain(end time.Time) (killed, known bool) {
	o.look()
	o.mu.Lock()
	defer o.mu.Unlock()
	killed = slices.ContainsFunc(o.ooms, func(oom between) bool {
		return oom.after.Before(end) && oom.until.After(end.Add(-dying))
	})
	return killed, !o.looked.IsZero()
}

// marked is an end that Podman says was for want of memory.
type marked struct {
	container string
	at        time.Time
}

// ranOut says whether a container ended for want of memory, as Podman or else
// the kernel tells. The kernel does not say whom it killed: it is taken to be who
// was killed at the time. Podman's mark outlives a restart (5.4 does not take it
// back): of a later end of the same container it says little.
func (r *Runtime) ranOut(w *worker, c Container) bool {
	s := c.State
	r.mu.Lock()
	if s.OOMKilled && w.marked.container != c.ID {
		w.marked = marked{c.ID, s.FinishedAt}
	}
	fresh := s.OOMKilled && w.marked.at.Equal(s.FinishedAt)
	r.mu.Unlock()
	if fresh || s.Status == "running" || s.ExitCode != killedCode {
		return fresh
	}
	killed, known := r.ooms.explain(s.FinishedAt)
	r.mu.Lock()
	defer r.mu.Unlock()
	if killed || !known && s.OOMKilled {
		w.ranOut = s.FinishedAt // it is asked again, long after
	}
	return s.FinishedAt.Equal(w.ranOut)
}
