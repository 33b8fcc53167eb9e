//go:build cgo && libvirt_dlopen

package libvirt

import (
	"context"
	"fmt"
	"path"
	"slices"
	"time"

	"libvirt.org/go/libvirt"
)

// recover finishes what a process that ended in the middle of a snapshot left.
// The caller holds the machine's lock. A machine whose creation was cut off is
// not its affair.
func (h *Hypervisor) recover(ctx context.Context, name string) error {
	domain, err := h.lookup(name)
	if err != nil {
		return err
	}
	meta, err := readMetadata(domain)
	domain.Free()
	if err != nil || meta.Resume == "" {
		return err
	}
	e, err := h.editLocked(ctx, name)
	if err != nil {
		return err
	}
	e.close()
	return nil
}

// finishSnapshot makes a machine that was stopped for a snapshot go on. libvirt
// says whether it still is as the snapshot left it: were it started and stopped
// since, its disk would have gone on without this memory, and the two together
// would be a damaged file system. A snapshot that was not recorded is dropped.
func (e *editor) finishSnapshot(ctx context.Context) error {
	e.h.Report("a snapshot of " + e.name + " was interrupted; the machine goes on where it was")
	if err := e.awaitSave(ctx); err != nil {
		return err
	}
	memory := e.meta.Resume
	if err := e.goOn(); err != nil {
		return err
	}
	if slices.ContainsFunc(e.meta.Snapshots, func(s snapshot) bool { return s.Memory == memory }) {
		return nil
	}
	if err := e.pool.Refresh(0); err != nil {
		return fmt.Errorf("refresh storage pool %s: %w", poolName, plain(err))
	}
	for _, volume := range []string{path.Base(memory), nvramOfMemory(path.Base(memory))} {
		if err := deleteVolume(e.pool, volume); err != nil {
			return err
		}
	}
	return e.pruneLayers()
}

// awaitSave waits while libvirt still writes the memory, which it does to the
// end also when nobody waits for it any more.
func (e *editor) awaitSave(ctx context.Context) error {
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for {
		state, reason, err := e.domain.GetState()
		if err != nil {
			return fmt.Errorf("look at domain: %w", plain(err))
		}
		e.active = state != libvirt.DOMAIN_SHUTOFF && state != libvirt.DOMAIN_CRASHED
		if state != libvirt.DOMAIN_PAUSED || libvirt.DomainPausedReason(reason) != libvirt.DOMAIN_PAUSED_SAVE {
			return nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("wait until the memory of %s is saved: %w", e.name, ctx.Err())
		}
	}
}

// goOn ends the pause that a snapshot made: from the saved memory, or, when
// that is not the machine's state any more, by an ordinary start.
func (e *editor) goOn() error {
	state, reason, err := e.domain.GetState()
	if err != nil {
		return fmt.Errorf("look at domain: %w", plain(err))
	}
	switch {
	case state != libvirt.DOMAIN_SHUTOFF && state != libvirt.DOMAIN_CRASHED: // it runs already
	case state == libvirt.DOMAIN_SHUTOFF && libvirt.DomainShutoffReason(reason) == libvirt.DOMAIN_SHUTOFF_SAVED:
		if err := e.resume(e.meta.Resume); err != nil {
			return err
		}
	default:
		if err := powerOn(e.domain); err != nil {
			return fmt.Errorf("start: %w", err)
		}
	}
	e.meta.Resume = ""
	return setMetadata(e.domain, e.meta)
}
