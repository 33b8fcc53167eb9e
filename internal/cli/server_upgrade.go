package cli

import (
	"context"

	"github.com/spf13/cobra"
)

func newServerUpgradeCmd(f *Factory) *cobra.Command {
	o := &serverInstallOptions{}
	var tag string
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Bring the installed control plane to this version",
		Long: `Brings the installed control plane to the version of this fleetctl, with the
options that it was installed with. Keys and data stay as they are; parts are
replaced one pod at a time. Options are changed by installing again.`,
		Example: `  fleetctl server upgrade
  fleetctl server upgrade --plan
  fleetctl server upgrade --image-tag v1.4.2`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runServerUpgrade(cmd.Context(), f, o, tag) },
	}
	flags := cmd.Flags()
	o.register(flags)
	o.registerCharts(flags)
	flags.StringVar(&tag, "image-tag", f.Version, "`tag` of the image")
	flags.BoolVar(&o.plan, "plan", false, "show what would change; exit code 3 when something would")
	flags.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	flags.BoolVar(&o.noWait, "no-wait", false, "do not wait until it is ready, and do not test it")
	o.registerCA(flags)
	return cmd
}

func runServerUpgrade(ctx context.Context, f *Factory, o *serverInstallOptions, tag string) error {
	i, err := f.installer(&o.serverFlags)
	if err != nil {
		return err
	}
	if o.Options, err = i.Installed(ctx, o.namespace); err != nil {
		return explainKube(err)
	}
	if err := o.readCA(); err != nil {
		return err
	}
	o.Version = tag
	return converge(ctx, f, i, o)
}
