package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func newPingCmd(f *Factory) *cobra.Command {
	return &cobra.Command{
		Use:   "ping DEVICE",
		Short: "Ask a device's agent for a sign of life",
		Long: `Ask a device's agent for a sign of life, through the control plane: a signed
command goes to the device over its own connection, and its answer comes back.`,
		Example: "  fleetctl ping pi-1",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return runPing(cmd.Context(), f, args[0]) },
	}
}

func runPing(ctx context.Context, f *Factory, device string) error {
	api, err := f.API()
	if err != nil {
		return err
	}
	ping, err := api.Ping(ctx, device)
	if err != nil {
		return err
	}
	return f.Print(ping, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s answered in %.1f ms\n", ping.DeviceID, ping.RoundTripMillis)
		return err
	})
}
