package cli

import (
	"fmt"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/nationtech/fleetctl/internal/install"
	"github.com/nationtech/fleetctl/internal/install/helmchart"
)

// serverFlags is what the commands about an installation have in common.
type serverFlags struct {
	namespace string
	timeout   time.Duration
	chartDir  string
}

func newServerCmd(f *Factory) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Install the control plane on a Kubernetes cluster, and look after it",
		Long: `Installs the control plane on a Kubernetes or OpenShift cluster, upgrades and
removes it. On one machine it needs no installation: fleet-server all.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		Example: `  fleetctl server --help
  fleetctl server install --domain fleet.example.com --issuer https://sso.example.com --project-id 1234 --nats-url tls://nats.example.com:4222`,
	}
	cmd.AddCommand(newServerInstallCmd(f), newServerStatusCmd(f), newServerUpgradeCmd(f), newServerUninstallCmd(f), newServerTestCmd(f),
		newServerChartCmd(f), newSetupIdentityCmd(f), newRotateSigningKeyCmd(f))
	return cmd
}

func (s *serverFlags) register(flags *pflag.FlagSet) {
	flags.StringVarP(&s.namespace, "namespace", "n", install.Defaults("").Namespace, "`namespace` of the control plane")
	flags.DurationVar(&s.timeout, "timeout", 5*time.Minute, "`time` to wait until it is ready")
}

// registerCharts is for the commands that may need the charts of others.
func (s *serverFlags) registerCharts(flags *pflag.FlagSet) {
	flags.StringVar(&s.chartDir, "chart-dir", "", "`directory` with the charts of others, as directories or archives, for sites without internet (default: they are fetched)")
}

// charts is how Helm reaches the cluster, and charts are found.
func (s *serverFlags) charts(f *Factory, config *rest.Config) *helmchart.Client {
	return &helmchart.Client{Config: config, Dir: s.chartDir, Timeout: s.timeout, Log: f.Err}
}

// installer reaches the cluster.
func (f *Factory) installer(s *serverFlags) (*install.Installer, error) {
	config, err := f.RESTConfig()
	if err != nil {
		return nil, err
	}
	config.QPS = -1 // a person does not type fast enough to need a limit
	log.SetLogger(logr.FromSlogHandler(f.Log().Handler()))
	if err := apiextensionsv1.AddToScheme(scheme.Scheme); err != nil {
		return nil, fmt.Errorf("register API types: %w", err)
	}
	c, err := client.New(config, client.Options{Scheme: scheme.Scheme})
	if err != nil {
		return nil, explainKube(fmt.Errorf("reach the Kubernetes API at %s: %w", config.Host, err))
	}
	return &install.Installer{Client: c, Charts: s.charts(f, config), Progress: func(what string) { _, _ = fmt.Fprintln(f.Err, what) }}, nil
}
