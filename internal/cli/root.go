package cli

import (
	"errors"
	"slices"

	"github.com/spf13/cobra"
)

func newRootCmd(f *Factory) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fleetctl",
		Short: "Turn bare Linux boxes into a managed fleet",
		Long: `fleetctl turns bare Linux boxes into a managed fleet: it makes virtual machines
that stand in for devices, onboards real ones over SSH with nothing installed on
them beforehand, and says which containers run where.

Which control plane a command is for: the one of --context or --server-dir; else
of $FLEETCTL_CONTEXT, else of $FLEETCTL_SERVER_DIR; else of the current context
(fleetctl context use, and the last fleetctl login); else the fleet-server that
this user runs on this machine. A context is used with the person's own session,
a server's directory with its administrator's token. --kubeconfig changes only
how Kubernetes is reached.`,
		Example: `  fleetctl doctor
  fleetctl vm create pi
  fleetctl onboard pi@192.0.2.7 --label site=lyon
  fleetctl deploy hello --image docker.io/library/nginx:1.29 --selector site=lyon --port 8080:80
  fleetctl get devices`,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(outputFormats(), f.global.output) {
				return usageError(errors.New("--output "+f.global.output+" is not known"), "use --output text, json or yaml")
			}
			return handOver(cmd)
		},
	}
	flags := cmd.PersistentFlags()
	flags.StringVarP(&f.global.output, "output", "o", outputText, "`format` of the result: text, json or yaml")
	flags.BoolVarP(&f.global.verbose, "verbose", "v", false, "log what is done to stderr")
	flags.StringVar(&f.global.kubeconfig, "kubeconfig", "", "kubeconfig `file` of the control plane")
	flags.StringVar(&f.global.serverDir, "server-dir", "", "data `directory` of a fleet-server on this machine")
	flags.StringVar(&f.global.context, "context", "", "`name` of a control plane that was signed in to")
	mustCompleteWith(cmd, "context", f.completeContexts)
	mustComplete(cmd, "output", outputFormats()...)
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError(err, "see: "+cmd.CommandPath()+" --help")
	})
	for _, sub := range commands(f) {
		usageArgs(sub)
		cmd.AddCommand(sub)
	}
	return cmd
}

// commands lists fleetctl's commands in the order of a fleet's life.
func commands(f *Factory) []*cobra.Command {
	return []*cobra.Command{
		newLoginCmd(f),
		newLogoutCmd(f),
		newWhoamiCmd(f),
		newContextCmd(f),
		newTokenCmd(f),
		newOnboardCmd(f),
		newEnrollCmd(f),
		newDevicesCmd(f),
		newRevokeCmd(f),
		newOffboardCmd(f),
		newDeployCmd(f),
		newRolloutCmd(f),
		newGetCmd(f),
		newDescribeCmd(f),
		newPingCmd(f),
		newLogsCmd(f),
		newInspectCmd(f),
		newRestartCmd(f),
		newStopCmd(f),
		newStartCmd(f),
		newExecCmd(f),
		newPortForwardCmd(f),
		newCopyCmd(f),
		newAuditCmd(f),
		newServerCmd(f),
		newBenchCmd(f),
		markLibvirt(newDoctorCmd(f)),
		markLibvirt(newVMCmd(f)),
		newImageCmd(f),
		newVersionCmd(f),
	}
}

// usageArgs makes every command's argument errors usage errors.
func usageArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usageError(err, "usage: "+cmd.UseLine())
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		usageArgs(sub)
	}
}

// mustComplete completes a flag from a fixed list. It panics on a flag that
// does not exist, which a test of the command tree finds.
func mustComplete(cmd *cobra.Command, flag string, values ...string) {
	mustCompleteWith(cmd, flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

func mustCompleteWith(cmd *cobra.Command, flag string, complete cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, complete); err != nil {
		panic(err)
	}
}
