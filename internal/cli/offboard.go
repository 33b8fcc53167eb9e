package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/hostcfg"
	"github.com/nationtech/fleetctl/onboard"
)

type offboardOptions struct {
	hostsOptions
	identity         identityOptions
	keepRegistration bool
}

func newOffboardCmd(f *Factory) *cobra.Command {
	o := &offboardOptions{}
	cmd := &cobra.Command{
		Use:   "offboard [USER@]HOST[:PORT]... | --local",
		Short: "Remove from hosts everything that onboard made",
		Long: `Removes everything that onboard made: unit, binary, configuration, the agent's
account with its containers, images and volumes, lines in /etc/hosts. Packages
stay. The control plane then refuses the device until it is onboarded again.`,
		Example: `  fleetctl offboard pi@192.0.2.7 --plan
  fleetctl offboard pi@192.0.2.7`,
		Args: cobra.ArbitraryArgs, // judged together with --local and --file
		RunE: func(cmd *cobra.Command, args []string) error {
			o.targets = args
			return runOffboard(cmd.Context(), f, o)
		},
	}
	o.register(cmd.Flags())
	cmd.Flags().StringVar(&o.identity.orgID, "org-id", "", "`id` of the issuer's organisation that has the fleet's project (default: your own)")
	cmd.Flags().BoolVar(&o.keepRegistration, "keep-registration", false, "leave the control plane alone; it is not spoken to")
	return cmd
}

func runOffboard(ctx context.Context, f *Factory, o *offboardOptions) error {
	targets, err := o.hostTargets()
	if err != nil {
		return err
	}
	var server *fleetServer
	if !o.keepRegistration {
		if server, err = newFleetServer(f); err != nil {
			return err
		}
		if server.accounts, err = o.identity.accounts(ctx, f, server); err != nil {
			return err
		}
	}
	run, err := o.connect(ctx, f, targets)
	if err != nil {
		return err
	}
	defer run.close()
	run.each(ctx, "looking", func(ctx context.Context, j *hostJob) (err error) {
		if j.device, err = onboard.DeviceOf(ctx, j.host); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		j.plan, err = hostcfg.MakePlan(ctx, j.host, onboard.Removal())
		return err
	})
	if goOn, err := run.agree(ctx, &o.hostsOptions, "Remove the device, its containers and their data?"); err != nil || !goOn {
		return err
	}
	run.each(ctx, "removing", func(ctx context.Context, j *hostJob) error {
		if err := run.apply(ctx, j); err != nil || server == nil || j.device == "" {
			return err
		}
		return server.forget(ctx, j.device)
	})
	return run.finish(ctx, func(j *hostJob) error {
		_, err := fmt.Fprintf(f.Out, "%s: %d changed in %.1fs; it is no device any more\n", j.name, j.outcome.Changed, j.took.Seconds())
		return err
	})
}
