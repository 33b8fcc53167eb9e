// Package lockfile makes sure that one process at a time uses a directory. The
// lock is the kernel's (flock), so it ends with its process however that ends;
// the file's content only tells people who holds it.
package lockfile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/nationtech/fleetctl/internal/hint"
)

// Lock is a held lock.
type Lock struct{ file *os.File }

// Acquire locks dir, or says which process has it.
func Acquire(dir string) (*Lock, error) {
	path := filepath.Join(dir, "lock")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	l := &Lock{file: file}
	switch err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		err := inUse(dir, file)
		_ = file.Close()
		return nil, err
	case err != nil:
		_ = file.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := l.sign(); err != nil {
		l.Release()
		return nil, fmt.Errorf("write our process id into %s: %w", path, err)
	}
	return l, nil
}

// Release gives the directory free. The file stays: removing it would let two
// processes hold locks on two files of the same name.
func (l *Lock) Release() {
	_ = l.file.Truncate(0)
	_ = l.file.Close()
}

func (l *Lock) sign() error {
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err := l.file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

func inUse(dir string, file *os.File) error {
	buf := make([]byte, 32)
	n, _ := file.ReadAt(buf, 0) // shorter than buf always ends in io.EOF
	pid := string(bytes.TrimSpace(buf[:n]))
	if pid == "" { // it is just starting, or just ending
		return hint.New(dir+" is in use by another fleet-server", "wait for it to end, or choose another --data-dir")
	}
	return hint.New(fmt.Sprintf("%s is in use by another fleet-server, process %s", dir, pid),
		fmt.Sprintf("use that one, stop it with: kill %s, or choose another --data-dir", pid))
}
