//go:build cgo && libvirt_dlopen

package libvirt

import (
	"bytes"
	"context"
	"fmt"

	"libvirt.org/go/libvirt"
)

// ConsoleLog implements vm.ConsoleReader.
func (h *Hypervisor) ConsoleLog(ctx context.Context, name string, limit int64) ([]byte, error) {
	pool, err := h.pool()
	if err != nil {
		return nil, err
	}
	if pool == nil {
		return nil, nil
	}
	defer pool.Free()
	volume, err := pool.LookupStorageVolByName(consoleVolume(name))
	if is(err, libvirt.ERR_NO_STORAGE_VOL) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up the console of %s: %w", name, plain(err))
	}
	defer volume.Free()
	info, err := volume.GetInfo()
	if err != nil {
		return nil, fmt.Errorf("look at the console of %s: %w", name, plain(err))
	}
	offset := uint64(0)
	if info.Capacity > uint64(limit) {
		offset = info.Capacity - uint64(limit)
	}
	if info.Capacity == offset {
		return nil, nil
	}
	var text bytes.Buffer
	if err := h.download(ctx, volume, offset, uint64(limit), &text); err != nil {
		return nil, fmt.Errorf("read the console of %s: %w", name, err)
	}
	return text.Bytes(), nil
}
