package cli

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/internal/install"
)

func newServerChartCmd(f *Factory) *cobra.Command {
	o := &serverInstallOptions{Options: install.Defaults(f.Version)}
	var dir string
	cmd := &cobra.Command{
		Use:   "chart",
		Short: "Write a Helm chart of the control plane",
		Long: `Writes a self-contained Helm chart of what "fleetctl server install" with the same
flags applies. Names, addresses and numbers become values, with what is given
here as defaults; how it is exposed, whether NATS runs beside it and whether
devices have passwords is decided now.`,
		Example: `  fleetctl server chart --output-dir fleet --domain fleet.example.com --issuer https://sso.example.com --project-id 1234 --nats-url tls://nats.example.com:4222`,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			o.Expose = install.Expose(o.expose)
			return runServerChart(f, o, dir)
		},
	}
	o.registerChoices(cmd.Flags())
	cmd.Flags().StringVar(&dir, "output-dir", install.ChartName, "`directory` to write it to")
	mustComplete(cmd, "expose", install.Exposures()...)
	return cmd
}

func runServerChart(f *Factory, o *serverInstallOptions, dir string) error {
	if err := o.readCA(); err != nil {
		return err
	}
	if err := o.Validate(); err != nil {
		return err
	}
	if o.WithZitadel {
		return usageError(errors.New("--with-zitadel: the chart holds the control plane alone"), "install Zitadel from its own chart, and name it with --issuer")
	}
	if err := o.WriteChart(dir); err != nil {
		return err
	}
	result := struct {
		SchemaVersion int    `json:"schemaVersion"`
		Directory     string `json:"directory"`
	}{1, dir}
	return f.Print(result, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s\nnext:\n  fleetctl server install --print-secrets … | kubectl apply -f -\n  helm upgrade --install fleet %s --namespace %s\n", dir, dir, o.Namespace)
		return err
	})
}
