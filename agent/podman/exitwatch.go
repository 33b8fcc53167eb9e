package podman

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/nationtech/fleetctl/internal/wire"
)

// pidfdOpen is pidfd_open(2), which has one number on all architectures.
const pidfdOpen = 434

// errExited says that there is no such process any more.
var errExited = errors.New("process has exited")

// awaitExit returns nil when the process ends, which needs neither a parent's
// rights nor Podman: its events go to the journal, where a system user such as
// the agent's may not read them. The error is errExited when it has ended
// already, and something else when it cannot be watched.
func awaitExit(ctx context.Context, pid int) error {
	fd, _, errno := syscall.Syscall(pidfdOpen, uintptr(pid), syscall.O_NONBLOCK, 0)
	if errno == syscall.ESRCH {
		return errExited
	}
	if errno != 0 {
		return fmt.Errorf("watch process %d: %w", pid, errno)
	}
	syscall.CloseOnExec(int(fd))
	file := os.NewFile(fd, "pidfd") // non-blocking, so the runtime's poller waits for it
	defer file.Close()
	stop := context.AfterFunc(ctx, func() { file.Close() })
	defer stop()
	conn, err := file.SyscallConn()
	if err != nil {
		return fmt.Errorf("watch process %d: %w", pid, err)
	}
	looked := false
	err = conn.Read(func(uintptr) bool {
		// The first call is before any waiting; the poller calls again when
		// the descriptor is readable, which means that the process ended.
		again := looked
		looked = true
		return again
	})
	if err != nil {
		return fmt.Errorf("watch process %d: %w", pid, err)
	}
	return nil
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

// watch has a pass made as soon as the container's process ends, and remembers
// how it did: what Podman starts again, it knows nothing more of.
func (r *Runtime) watch(ctx context.Context, w *worker, c Container) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid := c.State.PID
	if pid == 0 || w.watched == pid {
		return
	}
	w.watched = pid
	go func() {
		err := awaitExit(ctx, pid)
		var seen *end
		if err == nil {
			seen = r.endOf(ctx, w, c.ID)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if w.watched == pid {
			w.watched = 0
		}
		if seen != nil {
			w.end = seen
		}
		switch {
		case err == nil:
			r.exited.Add(1)
			r.later(0)
		case errors.Is(err, errExited):
			r.exited.Add(1)
			r.later(waitRetry)
		case ctx.Err() == nil:
			r.log.Debug("a container's end is noticed at the next tick only", "service", w.key.String(), "error", err)
		}
	}()
}

// endOf looks how a container ended, for as long as Podman may need to record
// it and to start it again; nil when it runs again by then.
func (r *Runtime) endOf(ctx context.Context, w *worker, id string) (seen *end) {
	for settled := time.Now().Add(exitSettles); ctx.Err() == nil && time.Now().Before(settled); sleep(ctx, exitPoll) {
		if seen != nil {
			continue
		}
		found, c, err := r.client.Inspect(ctx, id)
		if err == nil && found && (c.State.Status == "exited" || c.State.Status == "stopped") {
			c.State.OOMKilled = r.ranOut(w, c)
			seen = &end{id, c.State}
		}
	}
	return seen
}
