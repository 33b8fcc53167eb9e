//go:build cgo && libvirt_dlopen

package libvirt

import (
	"context"
	"fmt"
	"path"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/vm"
)

var _ vm.Resizer = (*Hypervisor)(nil)

// Resize implements vm.Resizer. The disk of a running machine grows at once,
// and the guest takes the room at its next boot; processors and memory change
// with the next start.
func (h *Hypervisor) Resize(ctx context.Context, name string, size vm.Size) (bool, error) {
	e, err := h.edit(ctx, name)
	if err != nil {
		return false, fmt.Errorf("resize %s: %w", name, err)
	}
	defer e.close()
	if err := e.resize(size); err != nil {
		return false, fmt.Errorf("resize %s: %w", name, err)
	}
	return e.active, nil
}

func (e *editor) resize(size vm.Size) error {
	if size.DiskGiB != 0 && size.DiskGiB < e.meta.DiskGiB {
		return hint.WithCode(hint.New(fmt.Sprintf("the disk has %d GiB, and disks only grow", e.meta.DiskGiB),
			"make a smaller machine anew with fleetctl vm create"), hint.CodeUsage)
	}
	if size.DiskGiB > e.meta.DiskGiB {
		if err := e.grow(size.DiskGiB); err != nil {
			return err
		}
		e.meta.DiskGiB = size.DiskGiB
	}
	if size.CPUs != 0 {
		e.xml.VCPU = &libvirtxml.DomainVCPU{Placement: "static", Value: uint(size.CPUs)}
	}
	if size.MemoryMiB != 0 {
		e.xml.Memory = &libvirtxml.DomainMemory{Value: uint(size.MemoryMiB), Unit: "MiB"}
		e.xml.CurrentMemory = nil
	}
	return e.save()
}

func (e *editor) grow(diskGiB int) error {
	disk, err := e.disk()
	if err != nil {
		return err
	}
	bytes := uint64(diskGiB) * gib
	if e.active {
		if err := e.domain.BlockResize(disk.Target.Dev, bytes, libvirt.DOMAIN_BLOCK_RESIZE_BYTES); err != nil {
			return fmt.Errorf("grow the disk: %w", plain(err))
		}
		return nil
	}
	volume, err := e.pool.LookupStorageVolByName(path.Base(disk.Source.File.File))
	if err != nil {
		return fmt.Errorf("look up the disk: %w", plain(err))
	}
	defer volume.Free()
	if err := volume.Resize(bytes, 0); err != nil {
		return fmt.Errorf("grow the disk: %w", plain(err))
	}
	return nil
}
