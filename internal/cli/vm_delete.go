package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/vm"
)

type vmDeleteOptions struct {
	names         []string
	all           bool
	yes           bool
	ignoreMissing bool
}

func newVMDeleteCmd(v *vmFactory) *cobra.Command {
	o := &vmDeleteOptions{}
	cmd := &cobra.Command{
		Use:     "delete NAME... | --all",
		Aliases: []string{"rm"},
		Short:   "Delete virtual machines with everything that belongs to them",
		Long: `Deletes virtual machines: the domain, its disk, snapshots, firmware variables,
first-boot seed and log. Also clears up what an interrupted creation left.`,
		Example: `  fleetctl vm delete demo
  fleetctl vm delete --all --yes`,
		Args:              cobra.ArbitraryArgs, // namesOf judges them together with --all
		ValidArgsFunction: v.completeVMs,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.names = args
			return runVMDelete(cmd.Context(), v, o)
		},
	}
	cmd.Flags().BoolVar(&o.all, "all", false, "all machines that fleetctl made")
	cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&o.ignoreMissing, "ignore-missing", false, "a machine that does not exist is no error")
	return cmd
}

func runVMDelete(ctx context.Context, v *vmFactory, o *vmDeleteOptions) error {
	h, err := v.hypervisor(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	names, err := namesOf(ctx, h, o.names, o.all)
	if err != nil {
		return err
	}
	if !o.yes && len(names) > 0 {
		if err := v.Confirm(ctx, fmt.Sprintf("Delete %s with all data?", strings.Join(names, ", ")), "--yes"); err != nil {
			return err
		}
	}
	err = eachVM(ctx, names, func(ctx context.Context, name string) error {
		err := h.Delete(ctx, name)
		if o.ignoreMissing && errors.Is(err, vm.ErrNotFound) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	return v.Print(vmNamesResult{1, "delete", names}, func(w io.Writer) error {
		for _, name := range names {
			fmt.Fprintf(w, "%s: deleted\n", name)
		}
		return nil
	})
}
