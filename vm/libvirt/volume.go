//go:build cgo && libvirt_dlopen

package libvirt

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

const gib = 1 << 30

func listVolumes(pool *libvirt.StoragePool) ([]libvirtxml.StorageVolume, error) {
	if err := pool.Refresh(0); err != nil {
		return nil, fmt.Errorf("refresh storage pool %s: %w", poolName, plain(err))
	}
	handles, err := pool.ListAllStorageVolumes(0)
	if err != nil {
		return nil, fmt.Errorf("list the volumes of %s: %w", poolName, plain(err))
	}
	volumes := make([]libvirtxml.StorageVolume, 0, len(handles))
	for i := range handles {
		text, err := handles[i].GetXMLDesc(0)
		handles[i].Free()
		if is(err, libvirt.ERR_NO_STORAGE_VOL) {
			continue // another process deleted it meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("describe a volume of %s: %w", poolName, plain(err))
		}
		var v libvirtxml.StorageVolume
		if err := v.Unmarshal(text); err != nil {
			return nil, fmt.Errorf("decode a volume of %s: %w", poolName, err)
		}
		volumes = append(volumes, v)
	}
	return volumes, nil
}

// deleteVolume is no error when the volume is not there.
func deleteVolume(pool *libvirt.StoragePool, name string) error {
	volume, err := pool.LookupStorageVolByName(name)
	if is(err, libvirt.ERR_NO_STORAGE_VOL) {
		return nil
	}
	if err == nil {
		defer volume.Free()
		err = volume.Delete(libvirt.STORAGE_VOL_DELETE_NORMAL)
	}
	if err != nil && !is(err, libvirt.ERR_NO_STORAGE_VOL) {
		return fmt.Errorf("delete volume %s: %w", name, plain(err))
	}
	return nil
}

// newVolume describes a volume; size is in bytes.
func newVolume(name, format string, size uint64, mode string) libvirtxml.StorageVolume {
	return libvirtxml.StorageVolume{
		Name:     name,
		Capacity: &libvirtxml.StorageVolumeSize{Value: size, Unit: "bytes"},
		Target: &libvirtxml.StorageVolumeTarget{
			Format:      &libvirtxml.StorageVolumeTargetFormat{Type: format},
			Permissions: &libvirtxml.StorageVolumeTargetPermissions{Mode: mode},
		},
	}
}

// createVolume makes a volume and returns its path. What has its name already
// is left from an interrupted run and goes first.
func createVolume(pool *libvirt.StoragePool, v libvirtxml.StorageVolume) (*libvirt.StorageVol, string, error) {
	if err := deleteVolume(pool, v.Name); err != nil {
		return nil, "", err
	}
	text, err := v.Marshal()
	if err != nil {
		return nil, "", fmt.Errorf("encode volume %s: %w", v.Name, err)
	}
	volume, err := pool.StorageVolCreateXML(text, 0)
	if err != nil {
		return nil, "", fmt.Errorf("create volume %s: %w", v.Name, plain(err))
	}
	path, err := volume.GetPath()
	if err != nil {
		return nil, "", errors.Join(fmt.Errorf("locate volume %s: %w", v.Name, plain(err)), volume.Free())
	}
	return volume, path, nil
}

// chunk is how much goes over a stream at once; libvirt's limit is 16 MiB.
const chunk = 1 << 20

// upload fills a volume.
func (h *Hypervisor) upload(ctx context.Context, volume *libvirt.StorageVol, content io.Reader, size int64) error {
	stream, err := h.conn.NewStream(0)
	if err != nil {
		return fmt.Errorf("open a stream: %w", plain(err))
	}
	defer stream.Free()
	if err := volume.Upload(stream, 0, uint64(size), 0); err != nil {
		return fmt.Errorf("begin the upload: %w", plain(err))
	}
	buffer := make([]byte, chunk)
	err = stream.SendAll(func(_ *libvirt.Stream, n int) ([]byte, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n, err := io.ReadFull(content, buffer[:min(n, len(buffer))])
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = nil
		}
		return buffer[:n], err
	})
	if err != nil {
		_ = stream.Abort()
		return fmt.Errorf("upload: %w", errors.Join(ctx.Err(), plain(err)))
	}
	if err := stream.Finish(); err != nil {
		return fmt.Errorf("finish the upload: %w", plain(err))
	}
	return nil
}

// download reads a volume from an offset, at most length bytes; 0 is all.
func (h *Hypervisor) download(ctx context.Context, volume *libvirt.StorageVol, offset, length uint64, sink io.Writer) error {
	stream, err := h.conn.NewStream(0)
	if err != nil {
		return fmt.Errorf("open a stream: %w", plain(err))
	}
	defer stream.Free()
	if err := volume.Download(stream, offset, length, 0); err != nil {
		return fmt.Errorf("begin the download: %w", plain(err))
	}
	err = stream.RecvAll(func(_ *libvirt.Stream, data []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return sink.Write(data)
	})
	if err != nil {
		_ = stream.Abort()
		return fmt.Errorf("download: %w", errors.Join(ctx.Err(), plain(err)))
	}
	if err := stream.Finish(); err != nil {
		return fmt.Errorf("finish the download: %w", plain(err))
	}
	return nil
}

// createFilled makes a volume with the content and returns its path.
func (h *Hypervisor) createFilled(ctx context.Context, pool *libvirt.StoragePool, name, mode string, content []byte) (string, error) {
	volume, path, err := createVolume(pool, newVolume(name, "raw", uint64(len(content)), mode))
	if err != nil {
		return "", err
	}
	defer volume.Free()
	if err := h.upload(ctx, volume, bytes.NewReader(content), int64(len(content))); err != nil {
		return "", fmt.Errorf("fill volume %s: %w", name, err)
	}
	return path, nil
}

// digest hashes a volume: from its file where that can be read, which is much
// faster, else through libvirt.
func (h *Hypervisor) digest(ctx context.Context, volume *libvirt.StorageVol, path string) (string, error) {
	sum := sha256.New()
	if !h.remote {
		if file, err := os.Open(path); err == nil {
			defer file.Close()
			if _, err := io.CopyBuffer(struct{ io.Writer }{sum}, struct{ io.Reader }{file}, make([]byte, chunk)); err != nil {
				return "", fmt.Errorf("read %s: %w", path, err)
			}
			return hex.EncodeToString(sum.Sum(nil)), nil
		}
	}
	if err := h.download(ctx, volume, 0, 0, sum); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
