//go:build cgo && libvirt_dlopen

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/vm"
)

var _ vm.Snapshotter = (*Hypervisor)(nil)

// CreateSnapshot implements vm.Snapshotter. libvirt's own snapshots refuse
// machines with raw NVRAM. So memory goes to a file, which also stops the
// machine; then the current disk layer is frozen by putting a new one on top,
// NVRAM is copied, and the machine goes on from the file.
func (h *Hypervisor) CreateSnapshot(ctx context.Context, name, snapshotName string) error {
	if err := vm.CheckName(snapshotName); err != nil {
		return err
	}
	e, err := h.edit(ctx, name)
	if err != nil {
		return fmt.Errorf("snapshot %s: %w", name, err)
	}
	defer e.close()
	if _, exists := e.meta.find(snapshotName); exists {
		return hint.New(fmt.Sprintf("%s has a snapshot %s already", name, snapshotName), "choose another name, or delete it: fleetctl vm snapshot delete "+name+" "+snapshotName)
	}
	if err := e.snapshot(snapshotName); err != nil {
		return fmt.Errorf("snapshot %s: %w", name, err)
	}
	return nil
}

func (e *editor) snapshot(name string) (err error) {
	disk, err := e.disk()
	if err != nil {
		return err
	}
	s := snapshot{Name: name, Created: time.Now().UTC().Truncate(time.Second), Disk: disk.Source.File.File, DiskGiB: e.meta.DiskGiB}
	if e.active {
		s.Memory = inPool(snapshotMemory(e.name, name))
		// Whoever comes next sees it, should this process end in between.
		e.meta.Resume = s.Memory
		if err := setMetadata(e.domain, e.meta); err != nil {
			return err
		}
		if err := e.domain.Save(s.Memory); err != nil {
			e.meta.Resume = ""
			return errors.Join(fmt.Errorf("save its memory: %w", plain(err)), setMetadata(e.domain, e.meta))
		}
		// Whatever fails from here on, the machine goes on where it was.
		defer func() { err = errors.Join(err, e.goOn()) }()
	}
	if e.xml.OS.NVRam != nil {
		s.NVRAM = snapshotNVRAM(e.name, name)
		if err := e.cloneVolume(path.Base(e.xml.OS.NVRam.NVRam), s.NVRAM); err != nil {
			return err
		}
	}
	layer, err := e.newLayer(s.Disk, s.DiskGiB)
	if err != nil {
		return err
	}
	disk.Source.File.File = layer
	e.meta.Snapshots = append(e.meta.Snapshots, s)
	if err := e.save(); err != nil {
		disk.Source.File.File = s.Disk
		return errors.Join(err, deleteVolume(e.pool, path.Base(layer)))
	}
	return nil
}

// newLayer makes an overlay on a disk layer and returns its path.
func (e *editor) newLayer(on string, diskGiB int) (string, error) {
	e.meta.Layer++
	v := newVolume(layerVolume(e.name, e.meta.Layer), "qcow2", uint64(diskGiB)*gib, "0600")
	v.BackingStore = &libvirtxml.StorageVolumeBackingStore{Path: on, Format: &libvirtxml.StorageVolumeTargetFormat{Type: "qcow2"}}
	volume, layer, err := createVolume(e.pool, v)
	if err != nil {
		return "", err
	}
	return layer, volume.Free()
}

// resume starts the machine from a memory file, on the disk that its
// definition names now.
func (e *editor) resume(memory string) error {
	text, err := e.encode()
	if err != nil {
		return err
	}
	if err := e.h.conn.DomainRestoreFlags(memory, text, libvirt.DOMAIN_SAVE_RUNNING); err != nil {
		return fmt.Errorf("go on from its memory: %w", plain(err))
	}
	return nil
}

// cloneVolume copies a raw volume; what has the target's name goes first.
func (e *editor) cloneVolume(from, to string) error {
	if err := deleteVolume(e.pool, to); err != nil {
		return err
	}
	if err := e.pool.Refresh(0); err != nil { // QEMU made the NVRAM, not the pool
		return fmt.Errorf("refresh storage pool %s: %w", poolName, plain(err))
	}
	source, err := e.pool.LookupStorageVolByName(from)
	if err != nil {
		return fmt.Errorf("look up volume %s: %w", from, plain(err))
	}
	defer source.Free()
	info, err := source.GetInfo()
	if err != nil {
		return fmt.Errorf("look at volume %s: %w", from, plain(err))
	}
	description := newVolume(to, "raw", info.Capacity, "0600")
	text, err := description.Marshal()
	if err != nil {
		return fmt.Errorf("encode volume %s: %w", to, err)
	}
	clone, err := e.pool.StorageVolCreateXMLFrom(text, source, 0)
	if err != nil {
		return fmt.Errorf("copy volume %s: %w", from, plain(err))
	}
	return clone.Free()
}

// Snapshots implements vm.Snapshotter; the oldest first.
func (h *Hypervisor) Snapshots(_ context.Context, name string) ([]vm.Snapshot, error) {
	domain, err := h.lookup(name)
	if err != nil {
		return nil, err
	}
	defer domain.Free()
	meta, err := readMetadata(domain)
	if err != nil {
		return nil, err
	}
	all := make([]vm.Snapshot, 0, len(meta.Snapshots))
	for _, s := range meta.Snapshots {
		all = append(all, vm.Snapshot{Name: s.Name, Created: s.Created, Running: s.Memory != "", DiskGiB: s.DiskGiB})
	}
	return all, nil
}

// RestoreSnapshot implements vm.Snapshotter.
func (h *Hypervisor) RestoreSnapshot(ctx context.Context, name, snapshotName string) error {
	e, err := h.edit(ctx, name)
	if err != nil {
		return fmt.Errorf("restore %s: %w", name, err)
	}
	defer e.close()
	s, err := e.find(snapshotName)
	if err != nil {
		return err
	}
	if err := e.restore(s); err != nil {
		return fmt.Errorf("restore %s to %s: %w", name, snapshotName, err)
	}
	return nil
}

func (e *editor) find(snapshotName string) (snapshot, error) {
	s, exists := e.meta.find(snapshotName)
	if !exists {
		return s, hint.New(fmt.Sprintf("%s has no snapshot %s", e.name, snapshotName), "see: fleetctl vm snapshot list "+e.name)
	}
	return s, nil
}

func (e *editor) restore(s snapshot) error {
	if err := powerCut(e.domain); err != nil {
		return err
	}
	if s.NVRAM != "" {
		if err := e.cloneVolume(s.NVRAM, path.Base(e.xml.OS.NVRam.NVRam)); err != nil {
			return err
		}
	}
	layer, err := e.newLayer(s.Disk, s.DiskGiB)
	if err != nil {
		return err
	}
	disk, err := e.disk()
	if err != nil {
		return err
	}
	disk.Source.File.File = layer
	e.meta.DiskGiB = s.DiskGiB
	if err := e.save(); err != nil {
		return errors.Join(err, deleteVolume(e.pool, path.Base(layer)))
	}
	if err := e.pruneLayers(); err != nil {
		return err
	}
	if s.Memory == "" {
		return nil
	}
	return e.resume(s.Memory)
}

// DeleteSnapshot implements vm.Snapshotter. A disk layer that others stand on
// stays until they are gone.
func (h *Hypervisor) DeleteSnapshot(ctx context.Context, name, snapshotName string) error {
	e, err := h.edit(ctx, name)
	if err != nil {
		return fmt.Errorf("delete a snapshot of %s: %w", name, err)
	}
	defer e.close()
	s, err := e.find(snapshotName)
	if err != nil {
		return err
	}
	e.meta.Snapshots = slices.DeleteFunc(e.meta.Snapshots, func(other snapshot) bool { return other.Name == snapshotName })
	if err := setMetadata(e.domain, e.meta); err != nil {
		return fmt.Errorf("delete snapshot %s of %s: %w", snapshotName, name, err)
	}
	if err := e.pool.Refresh(0); err != nil {
		return fmt.Errorf("refresh storage pool %s: %w", poolName, plain(err))
	}
	for _, volume := range []string{path.Base(s.Memory), s.NVRAM} {
		if volume == "" || volume == "." {
			continue
		}
		if err := deleteVolume(e.pool, volume); err != nil {
			return err
		}
	}
	return e.pruneLayers()
}

// pruneLayers deletes the layers that neither the machine nor a snapshot of it
// stands on.
func (e *editor) pruneLayers() error {
	volumes, err := listVolumes(e.pool)
	if err != nil {
		return err
	}
	backing := map[string]string{}
	for _, v := range volumes {
		if v.BackingStore != nil {
			backing[v.Target.Path] = v.BackingStore.Path
		}
	}
	disk, err := e.disk()
	if err != nil {
		return err
	}
	needed := map[string]bool{}
	mark := func(layer string) {
		for ; layer != "" && !needed[layer]; layer = backing[layer] {
			needed[layer] = true
		}
	}
	mark(disk.Source.File.File)
	for _, s := range e.meta.Snapshots {
		mark(s.Disk)
	}
	for _, v := range volumes {
		if isLayer(v.Name, e.name) && !needed[v.Target.Path] {
			if err := deleteVolume(e.pool, v.Name); err != nil {
				return err
			}
		}
	}
	return nil
}
