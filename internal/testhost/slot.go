package testhost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// stateDir holds a directory for each host of this machine. It is not on
// tmpfs: a host's files are there.
const stateDir = "/var/tmp/fleetctl-testhost"

// maxHosts is how many hosts a machine can have at a time.
const maxHosts = 250

// slot is a host's number, from which its address and names follow, and its
// directory.
type slot int

func (s slot) dir() string    { return filepath.Join(stateDir, strconv.Itoa(int(s))) }
func (s slot) root() string   { return filepath.Join(s.dir(), "root") }
func (s slot) ip() string     { return fmt.Sprintf("10.213.0.%d", int(s)+1) }
func (s slot) netns() string  { return fmt.Sprintf("fleet-th%d", int(s)) }
func (s slot) veth() string   { return fmt.Sprintf("fleet-th%d", int(s)) }
func (s slot) owner() string  { return filepath.Join(s.dir(), "owner.json") }
func (s slot) init() string   { return filepath.Join(s.dir(), "nspawn.json") }
func (s slot) cgroup() string { return fmt.Sprintf("fleet-th%d", int(s)) }

// takeSlot gives the calling process a free slot. What dead owners left in
// others is removed first.
func takeSlot(ctx context.Context) (slot, error) {
	unlock, err := lock()
	if err != nil {
		return 0, err
	}
	defer unlock()
	collectStale(ctx)
	me, err := processOf(os.Getpid())
	if err != nil {
		return 0, err
	}
	for s := slot(1); s <= maxHosts; s++ {
		err := os.Mkdir(s.dir(), 0o755)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("take a slot for a test host: %w", err)
		}
		if err := me.record(s.owner()); err != nil {
			return 0, errors.Join(err, os.RemoveAll(s.dir()))
		}
		return s, ensureBridge(ctx)
	}
	return 0, fmt.Errorf("%d test hosts are running, which is the most there can be", maxHosts)
}

// collectStale removes the hosts whose owner is gone. A host that cannot be
// removed keeps its slot and is tried again the next time.
func collectStale(ctx context.Context) {
	entries, err := os.ReadDir(stateDir)
	if err != nil {
		return
	}
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if s := slot(n); !recorded(s.owner()).alive() {
			_ = s.remove(ctx)
		}
	}
}

// remove takes away everything of a slot: processes, mounts, network, cgroups
// and files, whichever of them exist.
func (s slot) remove(ctx context.Context) error {
	err := recorded(s.init()).killTree()
	if err == nil {
		err = errors.Join(s.unmount(), s.removeNetwork(ctx), s.removeCgroup())
	}
	if err != nil {
		return fmt.Errorf("remove test host %d: %w", int(s), err)
	}
	return os.RemoveAll(s.dir())
}

// release removes the slot, and the bridge after the last one.
func (s slot) release(ctx context.Context) error {
	unlock, err := lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.remove(ctx); err != nil {
		return err
	}
	left, err := filepath.Glob(filepath.Join(stateDir, "[0-9]*"))
	if err != nil || len(left) > 0 {
		return err
	}
	return removeBridge(ctx)
}

// lock serialises what all test processes of the machine share.
func lock() (unlock func(), err error) {
	if err := os.MkdirAll(stateDir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(stateDir, "lock"), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

func writeJSON(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}
