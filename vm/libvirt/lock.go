package libvirt

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// lock keeps other fleetctl processes, and other goroutines, from the same
// thing on the same hypervisor until unlock is called or the process ends. It
// holds between programs of one user on one machine, which is where parallel
// creates come from.
func (c Config) lock(ctx context.Context, name string) (unlock func(), err error) {
	dir := filepath.Join(c.CacheDir, "locks")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the lock directory: %w", err)
	}
	uri := sha256.Sum256([]byte(c.URI))
	file, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("%x-%s", uri[:4], name)), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of %s: %w", name, err)
	}
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if err != syscall.EWOULDBLOCK && err != syscall.EINTR {
			_ = file.Close()
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
		select {
		case <-ctx.Done():
			_ = file.Close()
			return nil, fmt.Errorf("wait for another fleetctl that works on %s: %w", name, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}
