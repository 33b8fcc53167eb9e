//go:build cgo && libvirt_dlopen

package libvirt

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"libvirt.org/go/libvirt"

	"github.com/nationtech/fleetctl/firmware"
	"github.com/nationtech/fleetctl/vm"
)

// sharedFile is content that machines have in common. Its volume is named for
// the content, and readable for QEMU's user.
type sharedFile struct {
	what   string // as messages call it
	volume string
	sha256 string
	size   int64
	open   func() (io.ReadCloser, error)
}

func imageFile(image vm.Image) (sharedFile, error) {
	info, err := os.Stat(image.Path)
	if err != nil {
		return sharedFile{}, fmt.Errorf("look at image %s: %w", image.Name, err)
	}
	return sharedFile{
		what: "image " + image.Name, volume: baseVolume(image.SHA256), sha256: image.SHA256, size: info.Size(),
		open: func() (io.ReadCloser, error) { return os.Open(image.Path) },
	}, nil
}

// paddedFiles are the parts of a firmware that do not have the size which the
// machine wants where they lie.
func paddedFiles(flash firmware.Flash) []sharedFile {
	var files []sharedFile
	for _, part := range []firmware.Part{flash.Code, flash.Vars} {
		if part.Padded != nil {
			files = append(files, sharedFile{
				what: "firmware " + part.Path, volume: firmwareVolume(part.SHA256), sha256: part.SHA256, size: int64(len(part.Padded)),
				open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(part.Padded)), nil },
			})
		}
	}
	return files
}

// ensureShared brings a file into the pool, once for all machines that use it,
// and returns its path there. What is there is verified at every use; a copy
// that is damaged or cut short is written again in place, which is right also
// for the machines that use it: sound blocks get the bytes they had. The
// caller holds poolLock.
func (h *Hypervisor) ensureShared(ctx context.Context, pool *libvirt.StoragePool, f sharedFile) (string, error) {
	volume, err := pool.LookupStorageVolByName(f.volume)
	var path string
	switch {
	case is(err, libvirt.ERR_NO_STORAGE_VOL):
		// Raw: the volume takes the file's bytes, whatever format they are in.
		if volume, path, err = createVolume(pool, newVolume(f.volume, "raw", uint64(f.size), "0644")); err != nil {
			return "", err
		}
		defer volume.Free()
	case err != nil:
		return "", fmt.Errorf("look up volume %s: %w", f.volume, plain(err))
	default:
		defer volume.Free()
		if path, err = volume.GetPath(); err != nil {
			return "", fmt.Errorf("locate volume %s: %w", f.volume, plain(err))
		}
		have, err := h.digest(ctx, volume, path)
		if err != nil {
			return "", err
		}
		if have == f.sha256 {
			return path, nil
		}
		h.Log.Warn("a file in the pool is damaged or was cut short; writing it again", "file", f.what, "volume", f.volume, "want", f.sha256, "have", have)
	}
	if err := h.fill(ctx, volume, f); err != nil {
		return "", fmt.Errorf("copy %s into the pool: %w", f.what, err)
	}
	have, err := h.digest(ctx, volume, path)
	if err != nil {
		return "", err
	}
	if have != f.sha256 {
		return "", fmt.Errorf("%s in the pool has SHA-256 %s after it was written, want %s", f.what, have, f.sha256)
	}
	return path, nil
}

func (h *Hypervisor) fill(ctx context.Context, volume *libvirt.StorageVol, f sharedFile) error {
	content, err := f.open()
	if err != nil {
		return err
	}
	defer content.Close()
	return h.upload(ctx, volume, content, f.size)
}
