package cli

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/assets"
	"github.com/nationtech/fleetctl/vm"
)

func newImageCmd(f *Factory) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Get and keep the cloud images that virtual machines start from",
		Long: `Keeps cloud images on this machine. They are verified against their publisher's
digest when they come, and their own at every use.`,
	}
	cmd.AddCommand(newImageListCmd(f), newImagePullCmd(f), newImageImportCmd(f), newImageRemoveCmd(f))
	return cmd
}

// imageStore is where images are kept. stall is how long a server may be
// silent; 0 is the store's default.
func (f *Factory) imageStore(stall time.Duration) (*assets.Store, error) {
	cache, err := f.CacheDir()
	if err != nil {
		return nil, err
	}
	return &assets.Store{
		Dir:      filepath.Join(cache, "images"),
		Entries:  assets.Catalogue(),
		Stall:    stall,
		Log:      f.Log(),
		Progress: f.downloadProgress(),
	}, nil
}

// downloadProgress tells how a download goes: a live line on a terminal, a line
// every ten seconds elsewhere.
func (f *Factory) downloadProgress() func(name string, done, total int64) {
	every, end := 10*time.Second, "\n"
	if f.ErrTerminal {
		every, end = 200*time.Millisecond, "\r"
	}
	var mu sync.Mutex
	var last time.Time
	return func(name string, done, total int64) {
		mu.Lock()
		defer mu.Unlock()
		finished := done == total
		if time.Since(last) < every && !finished {
			return
		}
		last = time.Now()
		if finished {
			end = "\n"
		}
		if total > 0 {
			fmt.Fprintf(f.Err, "%s: %s of %s (%d %%)   %s", name, formatSize(done), formatSize(total), 100*done/total, end)
			return
		}
		fmt.Fprintf(f.Err, "%s: %s   %s", name, formatSize(done), end)
	}
}

// image finds an image by name, path or URL, verified.
func (f *Factory) image(ctx context.Context, ref assets.Ref) (assets.Image, error) {
	store, err := f.imageStore(0)
	if err != nil {
		return assets.Image{}, err
	}
	return store.Open(ctx, ref)
}

// imageResult is what scripts get of one image.
type imageResult struct {
	SchemaVersion int    `json:"schemaVersion"`
	Name          string `json:"name"`
	Arch          string `json:"arch"`
	Path          string `json:"path"`
	SHA256        string `json:"sha256"`
	Format        string `json:"format"`
	VirtualSize   int64  `json:"virtualSize"`
}

func (f *Factory) printImage(image assets.Image, arch, verb string) error {
	result := imageResult{1, image.Name, arch, image.Path, image.SHA256, image.Format, image.Size}
	return f.Print(result, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s for %s %s, SHA-256 %s\n", image.Name, arch, verb, image.SHA256)
		return err
	})
}

func archFlag(cmd *cobra.Command, arch *string) {
	cmd.Flags().StringVar(arch, "arch", string(vm.HostArch()), "processor `architecture`: x86_64 or aarch64")
	mustComplete(cmd, "arch", "x86_64", "aarch64")
}

func completeImages(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	seen := map[string]bool{}
	var names []cobra.Completion
	for _, e := range assets.Catalogue() {
		if !seen[e.Name] {
			seen[e.Name] = true
			names = append(names, cobra.CompletionWithDesc(e.Name, e.Title))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
