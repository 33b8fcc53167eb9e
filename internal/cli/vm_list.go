package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/nationtech/fleetctl/vm"
)

func newVMListCmd(v *vmFactory) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the virtual machines that fleetctl made",
		Example: `  fleetctl vm list
  fleetctl vm list --output json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runVMList(cmd.Context(), v) },
	}
}

func runVMList(ctx context.Context, v *vmFactory) error {
	h, err := v.hypervisor(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	machines, err := h.List(ctx)
	if err != nil {
		return err
	}
	return v.Print(vmListResult{1, machines}, func(w io.Writer) error {
		if len(machines) == 0 {
			_, err := fmt.Fprintln(w, "no virtual machines; make one with: fleetctl vm create NAME")
			return err
		}
		rows := make([][]string, 0, len(machines))
		for _, m := range machines {
			rows = append(rows, []string{m.Name, string(m.State), string(m.Arch), string(m.Accel), strconv.Itoa(m.CPUs),
				formatSize(int64(m.MemoryMiB) * mib), formatSize(int64(m.DiskGiB) * gib), m.Address, m.Image, ageOf(m)})
		}
		return table(w, []string{"NAME", "STATE", "ARCH", "ACCEL", "CPUS", "MEMORY", "DISK", "ADDRESS", "IMAGE", "AGE"}, rows)
	})
}

func ageOf(m vm.VM) string { return duration.HumanDuration(time.Since(m.Created)) }

func newVMInfoCmd(v *vmFactory) *cobra.Command {
	return &cobra.Command{
		Use:   "info NAME",
		Short: "Show a virtual machine",
		Example: `  fleetctl vm info demo
  fleetctl vm info demo --output json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: v.completeVMs,
		RunE:              func(cmd *cobra.Command, args []string) error { return runVMInfo(cmd.Context(), v, args[0]) },
	}
}

func runVMInfo(ctx context.Context, v *vmFactory, name string) error {
	h, err := v.hypervisor(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	m, err := h.Get(ctx, name)
	if err != nil {
		return err
	}
	return v.Print(vmResult{1, m}, func(w io.Writer) error {
		for _, line := range [][2]string{
			{"Name", m.Name}, {"State", string(m.State)}, {"Arch", string(m.Arch)}, {"Accelerator", string(m.Accel)},
			{"Firmware", string(m.Firmware)}, {"CPUs", strconv.Itoa(m.CPUs)}, {"Memory", formatSize(int64(m.MemoryMiB) * mib)},
			{"Disk", formatSize(int64(m.DiskGiB) * gib)}, {"Image", m.Image}, {"Image SHA-256", m.ImageSHA},
			{"Network", m.Network}, {"MAC", m.MAC}, {"Address", m.Address}, {"User", m.User}, {"Host key", m.HostKey},
			{"Created", m.Created.Format(time.RFC3339)},
		} {
			if _, err := fmt.Fprintf(w, "%-14s %s\n", line[0]+":", printable(line[1])); err != nil {
				return err
			}
		}
		return nil
	})
}
