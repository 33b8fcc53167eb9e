package cli

import (
	"context"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nationtech/fleetctl/internal/issuer"
	"github.com/nationtech/fleetctl/server/internal/parts"
)

// partOptions is what every part has beside its own flags.
type partOptions struct {
	config  string
	verbose bool
	stderr  io.Writer
}

// runner is the configuration of a part.
type runner interface {
	Run(ctx context.Context, ready func()) error
}

// partCmd makes the command of a part whose flags are bound to r and a.
func partCmd(cmd *cobra.Command, version string, a *parts.Access, r runner) *cobra.Command {
	opts := &partOptions{}
	cmd.Args = noArgs
	flags := cmd.Flags()
	addAccessFlags(flags, a)
	flags.StringVar(&opts.config, "config", "", "`file` in YAML that holds these flags by name, such as nats-url: [tls://nats:4222]; a flag given here counts more")
	flags.BoolVarP(&opts.verbose, "verbose", "v", false, "log details")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		opts.stderr = cmd.ErrOrStderr()
		if err := applyConfigFile(cmd.Flags(), opts.config); err != nil {
			return err
		}
		return runPart(cmd.Context(), version, *opts, a, r)
	}
	return cmd
}

func runPart(ctx context.Context, version string, opts partOptions, a *parts.Access, r runner) error {
	level := slog.LevelInfo
	if opts.verbose {
		level = slog.LevelDebug
	}
	// One JSON object a line is what collectors of pods' logs read.
	a.Log = slog.New(slog.NewJSONHandler(opts.stderr, &slog.HandlerOptions{Level: level}))
	a.Version = version
	slog.SetDefault(a.Log.With("component", "library"))
	notify := os.Getenv("NOTIFY_SOCKET")
	return r.Run(ctx, func() {
		if err := tellReady(notify); err != nil {
			a.Log.Warn("systemd is not told", "error", err)
		}
	})
}

func addAccessFlags(flags *pflag.FlagSet, a *parts.Access) {
	flags.StringVar(&a.Kubeconfig, "kubeconfig", "", "`file` of access to the Kubernetes API (default: the pod's service account)")
	flags.StringSliceVar(&a.NATSURLs, "nats-url", nil, "`URL` of a NATS server, such as tls://nats:4222 (repeatable)")
	flags.StringVar(&a.NATSCAFile, "nats-ca", "", "`file` of the authorities of the NATS servers' certificates, PEM (default: the system's)")
	flags.StringVar(&a.KeysDir, "keys-dir", "", "`directory` of this part's NATS keys")
	flags.StringVar(&a.StatusAddress, "status-address", ":8081", "`address` of /healthz, /readyz and /metrics; empty for none")
	flags.DurationVar(&a.StartTimeout, "start-timeout", time.Minute, "`time` until a start that is not complete is given up")
}

func newOperatorCmd(version string) *cobra.Command {
	var c parts.Operator
	cmd := &cobra.Command{
		Use:   "operator",
		Short: "Run the operator alone: Deployments to desired state, reports to status",
		Long: `Run the operator alone, against a Kubernetes API and NATS servers that are there
already. Of several operators one works and the others stand by; it makes the
buckets and keeps them as they have to be. "fleetctl server install" runs it.`,
		Example: `  fleet-server operator --kubeconfig admin.kubeconfig --nats-url tls://nats:4222 --nats-ca ca.pem \
      --keys-dir keys --signing-dir signing --namespace fleet-system --replicas 3`,
	}
	flags := cmd.Flags()
	flags.StringVar(&c.SigningDir, "signing-dir", "", "`directory` of the keys that manifests are signed with")
	flags.StringVar(&c.Namespace, "namespace", "", "`namespace` of the Lease that operators agree on")
	hostname, _ := os.Hostname() // without one the library names itself
	flags.StringVar(&c.Identity, "identity", hostname, "`name` of this operator among them")
	flags.IntVar(&c.Devices, "devices", 10_000, "the most devices that there will be; buckets are sized for them")
	flags.IntVar(&c.Replicas, "replicas", 3, "replicas of the bucket of desired state: 1, 3 or 5; those of reports have one")
	return partCmd(cmd, version, &c.Access, &c)
}

func newCalloutCmd(version string) *cobra.Command {
	var c parts.Callout
	cmd := &cobra.Command{
		Use:   "callout",
		Short: "Run the auth callout alone: who may connect to NATS",
		Long: `Run the NATS auth callout alone: it decides who may connect, and with which
permissions, by the Devices in the Kubernetes API. Several share the load.
"fleetctl server install" runs it.`,
		Example: `  fleet-server callout --kubeconfig admin.kubeconfig --nats-url tls://nats:4222 --nats-ca ca.pem \
      --keys-dir keys --issuer https://sso.example.com --project-id 1234`,
	}
	flags := cmd.Flags()
	flags.StringVar(&c.FleetKeyFile, "fleet-key", "", "`file` of the key that devices' passwords come from (default: devices have none)")
	flags.StringVar(&c.DeviceClaim, "device-claim", issuer.ClaimUsername, "`claim` of a device's token that names it")
	flags.StringVar(&c.DevicePrefix, "device-prefix", issuer.DevicePrefix, "what precedes the device's id in that claim")
	addPeopleFlags(flags, &c.People)
	return partCmd(cmd, version, &c.Access, &c)
}

func newDashboardCmd(version string) *cobra.Command {
	var c parts.Dashboard
	cmd := &cobra.Command{
		Use:   "dashboard",
		Short: "Run the HTTPS API and the dashboard alone",
		Long: `Run the HTTPS API and the dashboard alone: enrolment, commands, the audit log.
One at a time: the audit log is a chain in a directory that one process can use.
"fleetctl server install" runs it.`,
		Example: `  fleet-server dashboard --kubeconfig admin.kubeconfig --nats-url tls://nats:4222 --nats-ca ca.pem \
      --keys-dir keys --signing-secret fleet-system/fleet-signing --audit-dir audit --issuer https://sso.example.com --project-id 1234 \
      --device-nats-url tls://nats.fleet.example.com:4222`,
	}
	flags := cmd.Flags()
	flags.StringVar(&c.Listen, "listen", ":8443", "`address` of the API")
	flags.StringVar(&c.CertFile, "tls-cert", "", "`file` of its certificate, PEM (default: plain HTTP, for behind an ingress that ends TLS)")
	flags.StringVar(&c.KeyFile, "tls-key", "", "`file` of the certificate's key, PEM")
	flags.StringVar(&c.SigningSecret, "signing-secret", "", "the Secret, as `NAMESPACE/NAME`, of the keys that commands are signed with; they can be rotated in it")
	flags.StringVar(&c.SigningDir, "signing-dir", "", "instead of --signing-secret, a `directory` of these keys, which is only read")
	flags.StringVar(&c.AuditDir, "audit-dir", "", "`directory` of the audit log")
	flags.StringVar(&c.AdminTokenFile, "admin-token", "", "`file` of a token that lets in whoever has it (default: nobody gets in by one)")
	flags.StringVar(&c.FleetKeyFile, "fleet-key", "", "`file` of the key that devices' passwords come from (default: devices have none)")
	flags.StringSliceVar(&c.DeviceNATSURLs, "device-nats-url", nil, "`URL` at which devices find NATS (repeatable)")
	flags.StringVar(&c.DeviceCAFile, "device-ca", "", "`file` of the authorities that devices check NATS against, PEM (default: their system's)")
	flags.StringVar(&c.PublicURL, "public-url", "", "`URL` at which people find this, such as https://fleet.example.com")
	flags.StringVar(&c.People.DashboardID, "dashboard-client-id", "", "`id` of the dashboard at the issuer (default: no pages are served)")
	flags.StringVar(&c.SessionKeyFile, "session-key", "", "`file` of the key that cookies are encrypted with, 32 bytes in hex")
	flags.StringVar(&c.KubernetesURL, "kubernetes-url", "", "`URL` at which people find the Kubernetes API")
	addPeopleFlags(flags, &c.People)
	return partCmd(cmd, version, &c.Access, &c)
}

func addPeopleFlags(flags *pflag.FlagSet, p *parts.People) {
	flags.StringVar(&p.Issuer, "issuer", "", "`URL` of the OpenID Connect issuer")
	flags.StringVar(&p.CAFile, "issuer-ca", "", "`file` of the authorities of the issuer's certificate, PEM (default: the system's)")
	flags.StringVar(&p.ProjectID, "project-id", "", "audience of its tokens; at Zitadel the `id` of the project")
	flags.StringVar(&p.ClientID, "client-id", "", "`id` of fleetctl at the issuer")
}
