//go:build cgo && libvirt_dlopen

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

// poolLock is held while the pool itself or what machines share in it is made
// or taken away.
const poolLock = "_pool"

// pool returns our pool, active; nil when it is not there.
func (h *Hypervisor) pool() (*libvirt.StoragePool, error) {
	pool, err := h.conn.LookupStoragePoolByName(poolName)
	if is(err, libvirt.ERR_NO_STORAGE_POOL) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up storage pool %s: %w", poolName, plain(err))
	}
	active, err := pool.IsActive()
	if err == nil && !active {
		err = pool.Create(libvirt.STORAGE_POOL_CREATE_WITH_BUILD)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start storage pool %s: %w", poolName, plain(err)), pool.Free())
	}
	return pool, nil
}

// ensurePool makes our pool where it is missing. The caller holds poolLock.
func (h *Hypervisor) ensurePool() (*libvirt.StoragePool, error) {
	if pool, err := h.pool(); pool != nil || err != nil {
		return pool, err
	}
	text, err := (&libvirtxml.StoragePool{
		Type: "dir",
		Name: poolName,
		Target: &libvirtxml.StoragePoolTarget{
			Path: poolPath,
			// QEMU's user passes through to the files that are made its own.
			Permissions: &libvirtxml.StoragePoolTargetPermissions{Mode: "0711"},
		},
	}).Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode storage pool: %w", err)
	}
	pool, err := h.conn.StoragePoolDefineXML(text, 0)
	if err != nil {
		return nil, fmt.Errorf("define storage pool %s: %w", poolName, plain(err))
	}
	if err := pool.Create(libvirt.STORAGE_POOL_CREATE_WITH_BUILD); err != nil {
		return nil, errors.Join(fmt.Errorf("make storage pool %s at %s: %w", poolName, poolPath, plain(err)), pool.Undefine(), pool.Free())
	}
	if err := pool.SetAutostart(true); err != nil {
		return nil, errors.Join(fmt.Errorf("start storage pool %s with the host: %w", poolName, plain(err)), pool.Free())
	}
	return pool, nil
}

// prunePool takes away shared volumes that no machine uses, and the pool when
// nothing is left in it. The domain that is about to go counts no more. The
// caller holds poolLock.
func (h *Hypervisor) prunePool(pool *libvirt.StoragePool, going string) error {
	volumes, err := listVolumes(pool)
	if err != nil {
		return err
	}
	used, err := h.firmwareInUse(going)
	if err != nil {
		return err
	}
	for _, v := range volumes {
		if v.BackingStore != nil {
			used[v.BackingStore.Path] = true
		}
	}
	left := 0
	for _, v := range volumes {
		if !strings.HasPrefix(v.Name, sharedMark) || used[v.Target.Path] {
			left++
			continue
		}
		if err := deleteVolume(pool, v.Name); err != nil {
			return err
		}
	}
	if left > 0 {
		return nil
	}
	if err := pool.Destroy(); err != nil {
		return fmt.Errorf("stop storage pool %s: %w", poolName, plain(err))
	}
	// Delete removes the directory, and fails when something lies in it that
	// is not a volume: then it stays, since it is not ours.
	if err := pool.Delete(libvirt.STORAGE_POOL_DELETE_NORMAL); err != nil && !is(err, libvirt.ERR_SYSTEM_ERROR) {
		return fmt.Errorf("remove storage pool %s: %w", poolName, plain(err))
	}
	if err := pool.Undefine(); err != nil {
		return fmt.Errorf("undefine storage pool %s: %w", poolName, plain(err))
	}
	return nil
}

// firmwareInUse lists the paths of the firmware and of the templates for NVRAM
// that domains name, except one of them.
func (h *Hypervisor) firmwareInUse(except string) (map[string]bool, error) {
	domains, err := h.conn.ListAllDomains(0)
	if err != nil {
		return nil, fmt.Errorf("list domains: %w", plain(err))
	}
	used := map[string]bool{}
	for i := range domains {
		d, err := definition(&domains[i])
		domains[i].Free()
		if is(err, libvirt.ERR_NO_DOMAIN) {
			continue // gone meanwhile
		}
		if err != nil {
			return nil, err
		}
		if d.Name == except || d.OS == nil {
			continue
		}
		if d.OS.Loader != nil {
			used[d.OS.Loader.Path] = true
		}
		if d.OS.NVRam != nil {
			used[d.OS.NVRam.Template] = true
		}
	}
	return used, nil
}

// ensureNetwork starts the network where it is not active.
func (h *Hypervisor) ensureNetwork(_ context.Context, name string) error {
	network, err := h.conn.LookupNetworkByName(name)
	if err != nil {
		return noNetwork(name, plain(err))
	}
	defer network.Free()
	active, err := network.IsActive()
	if err != nil {
		return fmt.Errorf("look at network %s: %w", name, plain(err))
	}
	if active {
		return nil
	}
	h.Report("network " + name + " was not active; starting it")
	if err := network.Create(); err != nil {
		return fmt.Errorf("start network %s: %w", name, plain(err))
	}
	return nil
}
