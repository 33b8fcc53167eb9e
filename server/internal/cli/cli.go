// Package cli is the command line of fleet-server: flags, output, signals and
// exit codes. What the commands do is in the packages they call.
package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/internal/hint"
)

// Main runs fleet-server and returns its exit code. The first SIGINT or SIGTERM
// asks for a clean stop, which is success for a server; a second one ends the
// process at once.
func Main(version string, args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	root := newRootCmd(version)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	_, _ = fmt.Fprintf(stderr, "error: %s\n", err)
	if next := hint.Of(err); next != "" {
		_, _ = fmt.Fprintf(stderr, "hint: %s\n", next)
	}
	switch {
	case ctx.Err() != nil:
		return hint.CodeInterrupted
	case strings.HasPrefix(err.Error(), "unknown command "): // cobra has no hook for it
		return hint.CodeUsage
	}
	return hint.Code(err)
}

func newRootCmd(version string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fleet-server",
		Short: "The control plane of a fleet",
		Long: `fleet-server is the control plane of a fleet of devices. "all" runs every part of
it in one process, with its state in one directory: the Kubernetes API, NATS, the
operator, and the API that fleetctl uses. "operator", "callout" and "dashboard" run
one part each, on a Kubernetes and with NATS servers that are there already.`,
		Example: `  fleet-server all
  fleet-server all --data-dir /var/lib/fleet-server --listen-address 0.0.0.0 --advertise fleet.example.com`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError(err, "see: "+cmd.CommandPath()+" --help")
	})
	cmd.AddCommand(newAllCmd(version), newOperatorCmd(version), newCalloutCmd(version), newDashboardCmd(version),
		newKubernetesCmd(), newNATSContextCmd(), newUsersCmd(), newVersionCmd(version))
	return cmd
}

func usageError(err error, next string) error {
	return hint.WithCode(hint.Wrap(err, next), hint.CodeUsage)
}

// noArgs refuses arguments as a usage error, which cobra's own check does not.
func noArgs(cmd *cobra.Command, args []string) error {
	if err := cobra.NoArgs(cmd, args); err != nil {
		return usageError(err, "usage: "+cmd.UseLine())
	}
	return nil
}
