package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/internal/wire"
)

type restartOptions struct {
	device string
	target wire.Target
}

func newRestartCmd(f *Factory) *cobra.Command {
	var o restartOptions
	cmd := &cobra.Command{
		Use:   "restart DEVICE DEPLOYMENT",
		Short: "Restart a deployment's containers on one device",
		Long: `Restart a deployment's containers on one device, one after the other, and wait
until they are up again. Each gets its stop timeout to end by itself. ctrl-C
stops waiting; a restart that has begun goes on.`,
		Example: "  fleetctl restart pi-1 web\n  fleetctl restart pi-1 shop --service db",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.device, o.target.Deployment = args[0], args[1]
			return runRestart(cmd.Context(), f, o)
		},
	}
	serviceFlag(cmd, &o.target, "only this service (default: all)")
	return cmd
}

// serviceFlag adds --service.
func serviceFlag(cmd *cobra.Command, t *wire.Target, usage string) {
	cmd.Flags().StringVarP(&t.Service, "service", "s", "", usage)
}

func runRestart(ctx context.Context, f *Factory, o restartOptions) error {
	if err := o.target.Validate(); err != nil {
		return usageError(err, "see which there are: fleetctl get deployments")
	}
	api, err := f.API()
	if err != nil {
		return err
	}
	if err := api.Restart(ctx, o.device, o.target); err != nil {
		return err
	}
	result := struct {
		SchemaVersion int    `json:"schemaVersion"`
		DeviceID      string `json:"deviceId"`
		wire.Target
	}{1, o.device, o.target}
	return f.Print(result, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s restarted on %s\n", o.target.Deployment, o.device)
		return err
	})
}
