package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/assets"
)

func newImageListCmd(f *Factory) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the images that are here, and those that can be downloaded",
		Example: "  fleetctl image list",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return runImageList(f) },
	}
}

// imageListed is a line of the list.
type imageListed struct {
	Name   string `json:"name"`
	Arch   string `json:"arch"`
	Title  string `json:"title,omitempty"`
	Here   bool   `json:"here"`
	Bytes  int64  `json:"bytes,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
	Source string `json:"source"`
}

type imageListResult struct {
	SchemaVersion int           `json:"schemaVersion"`
	Images        []imageListed `json:"images"`
}

func runImageList(f *Factory) error {
	store, err := f.imageStore(0)
	if err != nil {
		return err
	}
	records, err := store.List()
	if err != nil {
		return err
	}
	result := imageListResult{1, listImages(store.Entries, records)}
	return f.Print(result, func(w io.Writer) error {
		rows := make([][]string, 0, len(result.Images))
		for _, i := range result.Images {
			state, size := "can be pulled", ""
			if i.Here {
				state, size = "here", formatSize(i.Bytes)
			}
			rows = append(rows, []string{i.Name, i.Arch, state, size, i.Source})
		}
		return table(w, []string{"NAME", "ARCH", "STATE", "SIZE", "SOURCE"}, rows)
	})
}

// listImages joins what can be had with what is here.
func listImages(entries []assets.Entry, records []assets.Record) []imageListed {
	here := map[string]assets.Record{}
	for _, r := range records {
		here[r.Name+"/"+r.Arch] = r
	}
	var all []imageListed
	for _, e := range entries {
		line := imageListed{Name: e.Name, Arch: e.Arch, Title: e.Title, Source: e.URL}
		if r, ok := here[e.Name+"/"+e.Arch]; ok {
			line.Here, line.Bytes, line.SHA256 = true, r.Bytes, r.SHA256
			delete(here, e.Name+"/"+e.Arch)
		}
		all = append(all, line)
	}
	for _, r := range records {
		if _, mine := here[r.Name+"/"+r.Arch]; mine {
			all = append(all, imageListed{Name: r.Name, Arch: r.Arch, Here: true, Bytes: r.Bytes, SHA256: r.SHA256, Source: r.Source})
		}
	}
	return all
}

type imageRemoveOptions struct {
	names []string
	arch  string
}

func newImageRemoveCmd(f *Factory) *cobra.Command {
	o := &imageRemoveOptions{}
	cmd := &cobra.Command{
		Use:     "remove NAME...",
		Aliases: []string{"rm"},
		Short:   "Remove images from this machine",
		Long:    "Removes images from this machine. Virtual machines made from them have their own\ncopy and go on.",
		Example: "  fleetctl image remove debian-13 --arch aarch64",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.names = args
			return runImageRemove(cmd.Context(), f, o)
		},
	}
	archFlag(cmd, &o.arch)
	return cmd
}

func runImageRemove(ctx context.Context, f *Factory, o *imageRemoveOptions) error {
	store, err := f.imageStore(0)
	if err != nil {
		return err
	}
	for _, name := range o.names {
		if err := store.Remove(ctx, name, o.arch); err != nil {
			return err
		}
	}
	return f.Print(vmNamesResult{1, "remove", o.names}, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s: removed\n", strings.Join(o.names, ", "))
		return err
	})
}
