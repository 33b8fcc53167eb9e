//go:build cgo && libvirt_dlopen

package libvirt

import (
	"context"
	"fmt"
	"os"

	"libvirt.org/go/libvirt"

	"github.com/nationtech/fleetctl/vm"
)

// ensureBase brings an image into the pool, once for all machines made from
// it, and returns its path there. What is there is verified at every use; a
// copy that is damaged or cut short is written again in place, which is right
// also for the machines that use it: sound blocks get the bytes they had. The
// caller holds poolLock.
func (h *Hypervisor) ensureBase(ctx context.Context, pool *libvirt.StoragePool, image vm.Image) (string, error) {
	name := baseVolume(image.SHA256)
	info, err := os.Stat(image.Path)
	if err != nil {
		return "", fmt.Errorf("look at image %s: %w", image.Name, err)
	}
	volume, err := pool.LookupStorageVolByName(name)
	var path string
	switch {
	case is(err, libvirt.ERR_NO_STORAGE_VOL):
		// Raw: the volume takes the file's bytes, whatever format they are in.
		if volume, path, err = createVolume(pool, newVolume(name, "raw", uint64(info.Size()), "0644")); err != nil {
			return "", err
		}
		defer volume.Free()
	case err != nil:
		return "", fmt.Errorf("look up volume %s: %w", name, plain(err))
	default:
		defer volume.Free()
		if path, err = volume.GetPath(); err != nil {
			return "", fmt.Errorf("locate volume %s: %w", name, plain(err))
		}
		have, err := h.digest(ctx, volume, path)
		if err != nil {
			return "", err
		}
		if have == image.SHA256 {
			return path, nil
		}
		h.Log.Warn("the image in the pool is damaged or was cut short; writing it again", "volume", name, "want", image.SHA256, "have", have)
	}
	if err := h.fillBase(ctx, volume, image, info.Size()); err != nil {
		return "", err
	}
	have, err := h.digest(ctx, volume, path)
	if err != nil {
		return "", err
	}
	if have != image.SHA256 {
		return "", fmt.Errorf("image %s in the pool has SHA-256 %s after it was written, want %s", image.Name, have, image.SHA256)
	}
	return path, nil
}

func (h *Hypervisor) fillBase(ctx context.Context, volume *libvirt.StorageVol, image vm.Image, size int64) error {
	file, err := os.Open(image.Path)
	if err != nil {
		return fmt.Errorf("open image %s: %w", image.Name, err)
	}
	defer file.Close()
	if err := h.upload(ctx, volume, file, size); err != nil {
		return fmt.Errorf("copy image %s into the pool: %w", image.Name, err)
	}
	return nil
}
