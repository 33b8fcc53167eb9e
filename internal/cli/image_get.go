package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/assets"
)

type imageGetOptions struct {
	name    string
	file    string
	arch    string
	sha256  string
	timeout time.Duration
}

func newImagePullCmd(f *Factory) *cobra.Command {
	o := &imageGetOptions{}
	cmd := &cobra.Command{
		Use:   "pull NAME|URL",
		Short: "Download an image, or verify the one that is here",
		Example: `  fleetctl image pull debian-13
  fleetctl image pull ubuntu-24.04 --arch aarch64
  fleetctl image pull https://example.com/disk.qcow2 --sha256 HEX`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name = args[0]
			return runImagePull(cmd.Context(), f, o)
		},
	}
	archFlag(cmd, &o.arch)
	cmd.Flags().StringVar(&o.sha256, "sha256", "", "`digest` that the image must have; needed for a URL")
	cmd.Flags().DurationVar(&o.timeout, "timeout", 30*time.Second, "how `long` the server may be silent")
	return cmd
}

func runImagePull(ctx context.Context, f *Factory, o *imageGetOptions) error {
	store, err := f.imageStore(o.timeout)
	if err != nil {
		return err
	}
	image, err := store.Open(ctx, assets.Ref{Name: o.name, Arch: o.arch, SHA256: o.sha256})
	if err != nil {
		return err
	}
	return f.printImage(image, o.arch, "is here and verified")
}

func newImageImportCmd(f *Factory) *cobra.Command {
	o := &imageGetOptions{}
	cmd := &cobra.Command{
		Use:   "import NAME FILE",
		Short: "Keep a disk image under a name",
		Example: `  fleetctl image import mine ./disk.qcow2
  fleetctl image import pi-image ./arm64.qcow2 --arch aarch64`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name, o.file = args[0], args[1]
			return runImageImport(cmd.Context(), f, o)
		},
	}
	archFlag(cmd, &o.arch)
	cmd.Flags().StringVar(&o.sha256, "sha256", "", "`digest` that the file must have")
	return cmd
}

func runImageImport(ctx context.Context, f *Factory, o *imageGetOptions) error {
	store, err := f.imageStore(0)
	if err != nil {
		return err
	}
	image, err := store.Import(ctx, o.name, o.arch, o.file, o.sha256)
	if err != nil {
		return err
	}
	return f.printImage(image, o.arch, "is imported")
}
