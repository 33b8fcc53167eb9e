package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
	"github.com/nationtech/fleetctl/internal/wire"
)

// runningVerb is one of the commands that have containers run or not.
type runningVerb struct {
	use, short, long, done string
	do                     func(*apiclient.Client, context.Context, string, wire.Target) error
}

func newRestartCmd(f *Factory) *cobra.Command {
	return newRunningCmd(f, runningVerb{use: "restart", done: "restarted", do: (*apiclient.Client).Restart,
		short: "Restart a deployment's containers on one device",
		long: `Restart a deployment's containers on one device, one after the other, and wait
until they are up again. Each gets its stop timeout to end by itself. ctrl-C
stops waiting; a restart that has begun goes on.`})
}

func newStopCmd(f *Factory) *cobra.Command {
	return newRunningCmd(f, runningVerb{use: "stop", done: "stopped", do: (*apiclient.Client).Stop,
		short: "Stop a deployment's containers on one device",
		long: `Stop a deployment's containers on one device, and wait until they are. They stay
stopped, over reboots and new versions too, until fleetctl start or restart.`})
}

func newStartCmd(f *Factory) *cobra.Command {
	return newRunningCmd(f, runningVerb{use: "start", done: "started", do: (*apiclient.Client).Start,
		short: "Start a deployment's containers that were stopped on one device",
		long: `Start a deployment's containers on one device that fleetctl stop stopped, and wait
until they are up.`})
}

func newRunningCmd(f *Factory, v runningVerb) *cobra.Command {
	var target wire.Target
	cmd := &cobra.Command{
		Use: v.use + " DEVICE DEPLOYMENT", Short: v.short, Long: v.long,
		Example: "  fleetctl " + v.use + " pi-1 web\n  fleetctl " + v.use + " pi-1 shop --service db",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			target.Deployment = args[1]
			return runRunning(cmd.Context(), f, v, args[0], target)
		},
	}
	serviceFlag(cmd, &target, "only this service (default: all)")
	return cmd
}

// serviceFlag adds --service.
func serviceFlag(cmd *cobra.Command, t *wire.Target, usage string) {
	cmd.Flags().StringVarP(&t.Service, "service", "s", "", usage)
}

func runRunning(ctx context.Context, f *Factory, v runningVerb, device string, t wire.Target) error {
	if err := t.Validate(); err != nil {
		return usageError(err, "see which there are: fleetctl get deployments")
	}
	api, err := f.API()
	if err != nil {
		return err
	}
	if err := v.do(api, ctx, device, t); err != nil {
		return err
	}
	result := struct {
		SchemaVersion int    `json:"schemaVersion"`
		DeviceID      string `json:"deviceId"`
		wire.Target
	}{1, device, t}
	return f.Print(result, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s %s on %s\n", t.Deployment, v.done, device)
		return err
	})
}
