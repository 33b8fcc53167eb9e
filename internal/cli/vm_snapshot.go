package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/vm"
	"github.com/nationtech/fleetctl/vm/libvirt"
)

func newVMSnapshotCmd(v *vmFactory) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Keep a machine's state and bring it back",
		Long: `Keeps the state of a virtual machine: its disk, its firmware variables and, when
it runs, its memory. Restoring brings all of it back together.`,
		Example: `  fleetctl vm snapshot create demo clean
  fleetctl vm snapshot restore demo clean`,
	}
	cmd.AddCommand(
		newVMSnapshotVerb(v, "create", "Keep the state of a machine", "created", (*libvirt.Hypervisor).CreateSnapshot),
		newVMSnapshotListCmd(v),
		newVMSnapshotVerb(v, "restore", "Bring a kept state back; what is there now is lost", "restored", (*libvirt.Hypervisor).RestoreSnapshot),
		newVMSnapshotVerb(v, "delete", "Forget a kept state", "deleted", (*libvirt.Hypervisor).DeleteSnapshot),
	)
	return cmd
}

type snapshotAction func(h *libvirt.Hypervisor, ctx context.Context, name, snapshot string) error

// vmSnapshotResult is what scripts get of a change.
type vmSnapshotResult struct {
	SchemaVersion int    `json:"schemaVersion"`
	Name          string `json:"name"`
	Snapshot      string `json:"snapshot"`
	Action        string `json:"action"`
}

func newVMSnapshotVerb(v *vmFactory, verb, short, done string, action snapshotAction) *cobra.Command {
	return &cobra.Command{
		Use:               verb + " NAME SNAPSHOT",
		Short:             short,
		Example:           "  fleetctl vm snapshot " + verb + " demo clean",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: v.completeVMs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runVMSnapshot(cmd.Context(), v, vmSnapshotResult{1, args[0], args[1], done}, action)
		},
	}
}

func runVMSnapshot(ctx context.Context, v *vmFactory, r vmSnapshotResult, action snapshotAction) error {
	h, err := v.hypervisor(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	if err := action(h, ctx, r.Name, r.Snapshot); err != nil {
		return err
	}
	return v.Print(r, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s: snapshot %s %s\n", r.Name, r.Snapshot, r.Action)
		return err
	})
}

// vmSnapshotListResult is what scripts get of the list.
type vmSnapshotListResult struct {
	SchemaVersion int           `json:"schemaVersion"`
	Name          string        `json:"name"`
	Snapshots     []vm.Snapshot `json:"snapshots"`
}

func newVMSnapshotListCmd(v *vmFactory) *cobra.Command {
	return &cobra.Command{
		Use:               "list NAME",
		Short:             "List a machine's snapshots",
		Example:           "  fleetctl vm snapshot list demo",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: v.completeVMs,
		RunE:              func(cmd *cobra.Command, args []string) error { return runVMSnapshotList(cmd.Context(), v, args[0]) },
	}
}

func runVMSnapshotList(ctx context.Context, v *vmFactory, name string) error {
	h, err := v.hypervisor(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	snapshots, err := h.Snapshots(ctx, name)
	if err != nil {
		return err
	}
	return v.Print(vmSnapshotListResult{1, name, snapshots}, func(w io.Writer) error {
		rows := make([][]string, 0, len(snapshots))
		for _, s := range snapshots {
			kept := "disk"
			if s.Running {
				kept = "disk and memory"
			}
			rows = append(rows, []string{s.Name, kept, formatSize(int64(s.DiskGiB) * gib), s.Created.Format(time.RFC3339)})
		}
		return table(w, []string{"NAME", "KEPT", "DISK", "CREATED"}, rows)
	})
}
