package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/internal/install"
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
	i, err := o.readInstalled(ctx, f)
	if err != nil {
		return err
	}
	o.Version = tag
	return converge(ctx, f, i, o)
}

// readInstalled makes the options those that the installation has, with the
// authorities that the flags name.
func (o *serverInstallOptions) readInstalled(ctx context.Context, f *Factory) (*install.Installer, error) {
	i, err := f.installer(&o.serverFlags)
	if err != nil {
		return nil, err
	}
	if o.Options, err = i.Installed(ctx, o.namespace); err != nil {
		return nil, explainKube(err)
	}
	return i, o.readCA()
}
