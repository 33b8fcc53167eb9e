//go:build cgo && libvirt_dlopen

package libvirt

import (
	"context"
	"errors"
	"fmt"

	"libvirt.org/go/libvirt"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/vm"
)

// Delete implements vm.Hypervisor.
func (h *Hypervisor) Delete(ctx context.Context, name string) error {
	if err := vm.CheckName(name); err != nil {
		return err
	}
	unlock, err := h.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	if err := h.remove(ctx, name); err != nil {
		return fmt.Errorf("delete virtual machine %s: %w", name, err)
	}
	return nil
}

// remove takes away domain, NVRAM, saved state and volumes; the caller holds
// the machine's lock. The domain goes last but one: as long as it is there, an
// interrupted removal can be seen and repeated.
func (h *Hypervisor) remove(ctx context.Context, name string) error {
	domain, err := h.lookup(name)
	missing := errors.Is(err, vm.ErrNotFound)
	if err != nil && !missing {
		return err
	}
	if domain != nil {
		defer domain.Free()
		if err := powerCut(domain); err != nil {
			return err
		}
		if machine, err := describe(h.conn, domain); err == nil {
			h.releaseLeases(machine.Network, machine.MAC)
		}
	}
	unlock, err := h.lock(ctx, poolLock)
	if err != nil {
		return err
	}
	defer unlock()
	volumes, err := h.removeVolumes(name)
	if err != nil {
		return err
	}
	if domain != nil {
		const everything = libvirt.DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.DOMAIN_UNDEFINE_SNAPSHOTS_METADATA |
			libvirt.DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | libvirt.DOMAIN_UNDEFINE_NVRAM
		if err := domain.UndefineFlags(everything); err != nil && !is(err, libvirt.ERR_NO_DOMAIN) {
			return fmt.Errorf("undefine domain: %w", plain(err))
		}
	}
	if missing && volumes == 0 {
		return hint.Wrap(vm.ErrNotFound, "see: fleetctl vm list")
	}
	return nil
}

// removeVolumes deletes a machine's volumes, and what no other one shares.
func (h *Hypervisor) removeVolumes(name string) (int, error) {
	pool, err := h.pool()
	if pool == nil || err != nil {
		return 0, err
	}
	defer pool.Free()
	volumes, err := listVolumes(pool)
	if err != nil {
		return 0, err
	}
	count := 0
	for _, v := range volumes {
		if belongsTo(v.Name, name) {
			if err := deleteVolume(pool, v.Name); err != nil {
				return count, err
			}
			count++
		}
	}
	return count, h.prunePool(pool, name)
}
