package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/vm"
)

// powerVerb is one of the commands that change whether a machine runs.
type powerVerb struct {
	use, short, done string
	action           vm.PowerAction
	forced           vm.PowerAction // with --force; "" has no such flag
}

var (
	powerStart   = powerVerb{use: "start", short: "Start virtual machines", done: "started", action: vm.PowerOn}
	powerStop    = powerVerb{use: "stop", short: "Shut virtual machines down", done: "stopped", action: vm.PowerOff, forced: vm.PowerCut}
	powerRestart = powerVerb{use: "restart", short: "Shut virtual machines down and start them", done: "restarted", action: vm.Restart}
	powerCycle   = powerVerb{use: "power-cycle", short: "Pull the plug of virtual machines and put it back", done: "power-cycled", action: vm.PowerCycle}
)

type vmPowerOptions struct {
	verb  powerVerb
	names []string
	all   bool
	force bool
}

func newVMPowerCmd(v *vmFactory, verb powerVerb) *cobra.Command {
	o := &vmPowerOptions{verb: verb}
	cmd := &cobra.Command{
		Use:   verb.use + " NAME... | --all",
		Short: verb.short,
		Example: fmt.Sprintf(`  fleetctl vm %[1]s demo
  fleetctl vm %[1]s --all`, verb.use),
		Args:              cobra.ArbitraryArgs, // namesOf judges them together with --all
		ValidArgsFunction: v.completeVMs,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.names = args
			return runVMPower(cmd.Context(), v, o)
		},
	}
	cmd.Flags().BoolVar(&o.all, "all", false, "all machines that fleetctl made")
	if verb.forced != "" {
		cmd.Flags().BoolVarP(&o.force, "force", "f", false, "pull the plug instead of asking the guest")
	}
	return cmd
}

// vmNamesResult is what scripts get of a command on several machines.
type vmNamesResult struct {
	SchemaVersion int      `json:"schemaVersion"`
	Action        string   `json:"action"`
	Names         []string `json:"names"`
}

func runVMPower(ctx context.Context, v *vmFactory, o *vmPowerOptions) error {
	h, err := v.hypervisor(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	names, err := namesOf(ctx, h, o.names, o.all)
	if err != nil {
		return err
	}
	action := o.verb.action
	if o.force {
		action = o.verb.forced
	}
	if err := eachVM(ctx, names, func(ctx context.Context, name string) error { return h.Power(ctx, name, action) }); err != nil {
		return err
	}
	return v.Print(vmNamesResult{1, string(action), names}, func(w io.Writer) error {
		for _, name := range names {
			fmt.Fprintf(w, "%s: %s\n", name, o.verb.done)
		}
		return nil
	})
}
