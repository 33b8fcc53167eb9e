package assets

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/nationtech/fleetctl/internal/hint"
)

// Disk is what an image file's header says.
type Disk struct {
	Format string // qcow2 or raw
	Size   int64  // as the guest sees it, in bytes
}

// qcow2 header, docs/interop/qcow2.txt: magic, version, backing file offset
// (8 bytes at 8), virtual size (8 bytes at 24), all big endian.
const (
	qcow2Magic   = 0x514649FB
	qcow2Backing = 8
	qcow2Size    = 24
	qcow2Header  = 32
)

// InspectDisk reads the header of an image. Anything that is not qcow2 is raw,
// if it has a boot sector. An image that needs another file is refused: the
// content hash would not cover it.
func InspectDisk(path string) (Disk, error) {
	file, err := os.Open(path)
	if err != nil {
		return Disk{}, fmt.Errorf("open image: %w", err)
	}
	defer file.Close()
	head := make([]byte, 512)
	if _, err := io.ReadFull(file, head); err != nil {
		return Disk{}, notAnImage(path)
	}
	if binary.BigEndian.Uint32(head) == qcow2Magic {
		if binary.BigEndian.Uint64(head[qcow2Backing:]) != 0 {
			return Disk{}, hint.New(fmt.Sprintf("image %s is an overlay on another file", path), "flatten it with: qemu-img convert -O qcow2 IN OUT")
		}
		return Disk{Format: "qcow2", Size: int64(binary.BigEndian.Uint64(head[qcow2Size:qcow2Header]))}, nil
	}
	if head[510] != 0x55 || head[511] != 0xAA {
		return Disk{}, notAnImage(path)
	}
	info, err := file.Stat()
	if err != nil {
		return Disk{}, fmt.Errorf("look at image: %w", err)
	}
	return Disk{Format: "raw", Size: info.Size()}, nil
}

func notAnImage(path string) error {
	return hint.Wrap(errors.New(path+" is neither a qcow2 image nor a raw disk with a boot sector"),
		"unpack it first if it is compressed; a cloud image is wanted, not an installer")
}
