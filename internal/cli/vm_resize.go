package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/vm"
)

type vmResizeOptions struct {
	name    string
	cpus    int
	memory  string
	disk    string
	restart bool
}

func newVMResizeCmd(v *vmFactory) *cobra.Command {
	o := &vmResizeOptions{}
	cmd := &cobra.Command{
		Use:   "resize NAME",
		Short: "Give a machine more or fewer processors, other memory, or a larger disk",
		Long: `Changes a virtual machine in place. The disk only grows, at once, and the guest
takes the room at its next boot; processors and memory change at the next start.`,
		Example: `  fleetctl vm resize demo --disk 32GiB
  fleetctl vm resize demo --cpus 4 --memory 4GiB --restart`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: v.completeVMs,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name = args[0]
			return runVMResize(cmd.Context(), v, o)
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&o.cpus, "cpus", 0, "`number` of processors")
	flags.StringVar(&o.memory, "memory", "", "memory `size`")
	flags.StringVar(&o.disk, "disk", "", "disk `size`")
	flags.BoolVar(&o.restart, "restart", false, "restart a running machine, so that all of it holds")
	cmd.MarkFlagsOneRequired("cpus", "memory", "disk")
	return cmd
}

// vmResizeResult is what scripts get.
type vmResizeResult struct {
	SchemaVersion int  `json:"schemaVersion"`
	NeedsRestart  bool `json:"needsRestart"`
	vm.VM
}

func (o *vmResizeOptions) size() (vm.Size, error) {
	size := vm.Size{CPUs: o.cpus}
	var err error
	var bytes int64
	if o.memory != "" {
		bytes, err = parseSize(o.memory, mib)
		size.MemoryMiB = int(bytes / mib)
	}
	if err == nil && o.disk != "" {
		bytes, err = parseSize(o.disk, gib)
		size.DiskGiB = int((bytes + gib - 1) / gib)
	}
	if err == nil && (o.cpus < 0 || o.cpus > 255 || o.memory != "" && size.MemoryMiB < 256) {
		err = errors.New("want 1 to 255 processors and at least 256 MiB of memory")
	}
	if err != nil {
		return vm.Size{}, usageError(err, "for example: --cpus 4 --memory 4GiB --disk 32GiB")
	}
	return size, nil
}

func runVMResize(ctx context.Context, v *vmFactory, o *vmResizeOptions) error {
	size, err := o.size()
	if err != nil {
		return err
	}
	h, err := v.hypervisor(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	restart, err := h.Resize(ctx, o.name, size)
	if err != nil {
		return err
	}
	if restart && o.restart {
		if err := h.Power(ctx, o.name, vm.Restart); err != nil {
			return err
		}
		restart = false
	}
	machine, err := h.Get(ctx, o.name)
	if err != nil {
		return err
	}
	return v.Print(vmResizeResult{1, restart, machine}, func(w io.Writer) error {
		fmt.Fprintf(w, "%s: %d CPUs, %d MiB, %d GiB\n", machine.Name, machine.CPUs, machine.MemoryMiB, machine.DiskGiB)
		if restart {
			fmt.Fprintf(w, "it runs; all of it holds after: fleetctl vm restart %s\n", machine.Name)
		}
		return nil
	})
}
