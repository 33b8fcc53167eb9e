package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/internal/wire"
)

type inspectOptions struct {
	device string
	target wire.Target
}

func newInspectCmd(f *Factory) *cobra.Command {
	var o inspectOptions
	cmd := &cobra.Command{
		Use:   "inspect DEVICE DEPLOYMENT",
		Short: "Show what a device's Podman knows of a deployment's containers",
		Long: `Show what a device's Podman knows of a deployment's containers: the answer of
podman inspect, as JSON. It holds the containers' environment.`,
		Example: "  fleetctl inspect pi-1 web\n  fleetctl inspect pi-1 shop --service db | jq '.[].State'",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.device, o.target.Deployment = args[0], args[1]
			return runInspect(cmd.Context(), f, o)
		},
	}
	serviceFlag(cmd, &o.target, "only this service (default: all)")
	return cmd
}

func runInspect(ctx context.Context, f *Factory, o inspectOptions) error {
	if err := o.target.Validate(); err != nil {
		return usageError(err, "see which there are: fleetctl get deployments")
	}
	api, err := f.API()
	if err != nil {
		return err
	}
	var answer, indented bytes.Buffer
	if err := api.Inspect(ctx, o.device, o.target, &answer); err != nil {
		return err
	}
	if err := json.Indent(&indented, answer.Bytes(), "", "  "); err != nil {
		return fmt.Errorf("read what device %s answered: %w", o.device, err)
	}
	return f.Print(json.RawMessage(answer.Bytes()), func(w io.Writer) error {
		_, err := fmt.Fprintln(w, indented.String())
		return err
	})
}
