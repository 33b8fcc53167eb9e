package cli

import (
	"context"

	"github.com/nationtech/fleetctl/assets"
)

// image finds an image by name, path or URL, verified.
func (f *Factory) image(ctx context.Context, ref, arch, sha256 string) (assets.Image, error) {
	return assets.OpenPath(ctx, ref, sha256)
}
