package assets

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/nationtech/fleetctl/internal/hint"
)

// DefaultImage is what machines are made from unless told otherwise.
const DefaultImage = "debian-13"

// Image is a disk image on this machine whose content was just verified.
type Image struct {
	Name   string
	Path   string
	SHA256 string // hex
	Disk
}

// OpenPath takes an image that lies somewhere on this machine. want is the
// SHA-256 that it must have, or "".
func OpenPath(ctx context.Context, path, want string) (Image, error) {
	disk, err := InspectDisk(path)
	if err != nil {
		return Image{}, err
	}
	have, err := SHA256File(ctx, path)
	if err != nil {
		return Image{}, err
	}
	if want != "" && !strings.EqualFold(want, have) {
		return Image{}, hint.New(fmt.Sprintf("image %s has SHA-256 %s, want %s", path, have, want), "get the image again, or correct --sha256")
	}
	return Image{Name: filepath.Base(path), Path: path, SHA256: have, Disk: disk}, nil
}
