package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/internal/wire"
)

type logsOptions struct {
	device  string
	since   string // a duration before now, or a time
	request wire.LogsRequest
}

func newLogsCmd(f *Factory) *cobra.Command {
	var o logsOptions
	cmd := &cobra.Command{
		Use:   "logs DEVICE DEPLOYMENT",
		Short: "Show what a service on a device has printed",
		Long: `Show what a service on a device has printed: its standard output on standard
output, its standard error on standard error. With --follow it goes on until
ctrl-C, or until the container ends.`,
		Example: "  fleetctl logs pi-1 web --tail 20\n  fleetctl logs pi-1 shop --service db --follow --since 10m",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.device, o.request.Deployment = args[0], args[1]
			return runLogs(cmd.Context(), f, o)
		},
	}
	serviceFlag(cmd, &o.request.Target, "which service, if the deployment has several")
	cmd.Flags().BoolVarP(&o.request.Follow, "follow", "f", false, "go on with what is printed from now on")
	cmd.Flags().StringVar(&o.since, "since", "", "not what is older: a duration (10m) or a time (2026-11-24T08:00:00Z)")
	cmd.Flags().IntVar(&o.request.Tail, "tail", 0, "only the last lines (default: all)")
	return cmd
}

func runLogs(ctx context.Context, f *Factory, o logsOptions) error {
	var err error
	if o.request.SinceSeconds, err = secondsSince(o.since, time.Now()); err != nil {
		return usageError(err, "write --since 10m, or --since 2026-11-24T08:00:00Z")
	}
	if err := o.request.Validate(); err != nil {
		return usageError(err, "see: fleetctl logs --help")
	}
	api, err := f.API()
	if err != nil {
		return err
	}
	return api.Logs(ctx, o.device, o.request, f.Out, f.Err)
}

// secondsSince gives how long before now text means; 0 when it is empty.
func secondsSince(text string, now time.Time) (int64, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		at, notTime := time.Parse(time.RFC3339, text)
		if notTime != nil {
			return 0, fmt.Errorf("--since %q is neither a duration nor a time", text)
		}
		d = now.Sub(at)
	}
	if d <= 0 {
		return 0, errors.New("--since is in the future")
	}
	return max(1, int64(d/time.Second)), nil
}
