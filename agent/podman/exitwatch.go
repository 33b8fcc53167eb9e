package podman

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
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
