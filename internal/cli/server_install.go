package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/identity/provision"
	"github.com/nationtech/fleetctl/internal/identity/trust"
	"github.com/nationtech/fleetctl/internal/identity/zitadel"
	"github.com/nationtech/fleetctl/internal/install"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
)

type serverInstallOptions struct {
	serverFlags
	install.Options
	expose       string
	print        bool
	printSecrets bool
	plan         bool
	yes          bool
	noWait       bool
	ca           string
	dsnFile      string
}

func newServerInstallCmd(f *Factory) *cobra.Command {
	o := &serverInstallOptions{Options: install.Defaults(f.Version)}
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Install the control plane on a Kubernetes cluster",
		Long: `Installs the control plane: operator, callout, HTTPS API and dashboard, with the
least rights that each needs, keys that are made once, and network policies.
Running it again changes nothing; what differs from what it should be is shown
as a diff before it is changed. It is done when a test through the public URLs
has passed.

NATS servers that are there already (--nats-url) have to be configured with the
accounts in ConfigMap fleet-nats-accounts, which the installation makes.`,
		Example: `  fleetctl server install --domain fleet.example.com --issuer https://sso.example.com --project-id 1234 --nats-url tls://nats.example.com:4222
  fleetctl server install --domain fleet.example.com --with-nats --with-zitadel --cluster-issuer letsencrypt
  fleetctl server install --domain fleet.example.com --issuer https://sso.example.com --project-id 1234 --nats-url tls://nats.example.com:4222 --print > fleet.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Namespace, o.Expose = o.namespace, install.Expose(o.expose)
			return runServerInstall(cmd.Context(), f, o)
		},
	}
	flags := cmd.Flags()
	o.register(flags)
	o.registerCharts(flags)
	o.registerChoices(flags)
	flags.BoolVar(&o.print, "print", false, "print every object as YAML, for review or GitOps, and touch nothing; Secrets are left out")
	flags.BoolVar(&o.printSecrets, "print-secrets", false, "print newly made Secrets as YAML, to be sealed and kept, and what NATS servers have to know of them, and touch nothing")
	flags.BoolVar(&o.plan, "plan", false, "show what would change; exit code 3 when something would")
	flags.BoolVarP(&o.yes, "yes", "y", false, "change what is there without being asked")
	flags.BoolVar(&o.noWait, "no-wait", false, "do not wait until it is ready, and do not test it")
	flags.StringVar(&o.dsnFile, "postgres-dsn-file", "", "`file` with postgres://USER:PASSWORD@HOST[:PORT]/DATABASE[?sslmode=MODE] of Zitadel's database (default: one that CloudNativePG makes)")
	mustComplete(cmd, "expose", install.Exposures()...)
	return cmd
}

func (o *serverInstallOptions) registerChoices(flags *pflag.FlagSet) {
	flags.StringVar(&o.Domain, "domain", "", "`name` of the control plane; NATS is at nats.NAME")
	flags.StringVar(&o.expose, "expose", string(o.Expose), "`way` to be reached: "+strings.Join(install.Exposures(), ", "))
	flags.StringVar(&o.IngressClass, "ingress-class", "", "`class` of the ingress (default: the cluster's)")
	flags.StringVar(&o.Gateway, "gateway", "", "`namespace/name` of the Gateway, with --expose gateway")
	flags.StringVar(&o.ClusterIssuer, "cluster-issuer", "", "`name` of cert-manager's ClusterIssuer for the public certificate")
	flags.StringVar(&o.TLSSecret, "tls-secret", "", "`name` of a Secret with the public certificate, instead")
	flags.StringVar(&o.Issuer, "issuer", "", "`URL` of the OpenID Connect issuer")
	flags.BoolVar(&o.WithZitadel, "with-zitadel", false, "install Zitadel as the issuer, at id.NAME, from its official Helm chart, instead")
	flags.StringVar(&o.ZitadelChart, "zitadel-chart-version", "", "`version` of that chart, when it has to be another than the one that fleetctl was made for")
	flags.StringVar(&o.ProjectID, "project-id", "", "audience of the issuer's tokens; at Zitadel the `id` of the project")
	flags.StringVar(&o.ClientID, "client-id", "", "`id` of fleetctl at the issuer")
	flags.StringVar(&o.DashboardID, "dashboard-client-id", "", "`id` of the dashboard at the issuer (default: no pages are served)")
	flags.StringSliceVar(&o.NATSURLs, "nats-url", nil, "`URL` of NATS servers that are there already (repeatable)")
	flags.BoolVar(&o.WithNATS, "with-nats", false, "install NATS in the same namespace, from its official Helm chart")
	flags.StringVar(&o.NATSChart, "nats-chart-version", "", "`version` of that chart, when it has to be another than the one that fleetctl was made for")
	flags.IntVar(&o.NATSReplicas, "nats-replicas", o.NATSReplicas, "NATS servers, and copies of the bucket of desired state: 1, 3 or 5")
	flags.IntVar(&o.Devices, "devices", o.Devices, "the most devices that there will be; buckets are sized for them")
	flags.BoolVar(&o.Passwords, "device-passwords", false, "let devices log in with passwords, for laboratories")
	flags.StringVar(&o.ImageRegistry, "image-registry", o.ImageRegistry, "`registry` of the image fleet-server")
	flags.StringVar(&o.Version, "image-tag", o.Version, "`tag` of the image")
	flags.StringVar(&o.KubernetesURL, "kubernetes-url", "", "`URL` at which people find this Kubernetes API")
	flags.StringSliceVar(&o.SecretsFrom, "secrets-from", nil, "`namespace` whose Secrets and ConfigMaps Deployments may send to devices (repeatable; default: none)")
	flags.StringVar(&o.StorageClass, "storage-class", "", "`class` of the audit log's volume (default: the cluster's)")
	o.registerCA(flags)
}

func (o *serverInstallOptions) registerCA(flags *pflag.FlagSet) {
	flags.StringVar(&o.ca, "ca", "", "`file` of the authorities of the public certificates (of API, issuer and NATS), PEM, where they are not public ones; parts and devices get it")
}

// readCA makes the file of --ca part of what is installed.
func (o *serverInstallOptions) readCA() error {
	if o.ca == "" {
		return nil
	}
	data, err := os.ReadFile(o.ca)
	if err != nil {
		return hint.WithCode(fmt.Errorf("read --ca: %w", err), hint.CodeUsage)
	}
	o.CA = string(data)
	return nil
}

func runServerInstall(ctx context.Context, f *Factory, o *serverInstallOptions) error {
	if err := o.readCA(); err != nil {
		return err
	}
	if o.dsnFile != "" {
		dsn, err := os.ReadFile(o.dsnFile)
		if err != nil {
			return hint.WithCode(fmt.Errorf("read --postgres-dsn-file: %w", err), hint.CodeUsage)
		}
		o.PostgresDSN = strings.TrimSpace(string(dsn))
	}
	if err := o.Validate(); err != nil {
		return err
	}
	if o.print || o.printSecrets {
		return printInstallation(ctx, f, o)
	}
	i, err := f.installer(&o.serverFlags)
	if err != nil {
		return err
	}
	return converge(ctx, f, i, o)
}

// printInstallation needs no cluster. NATS goes with the Secrets: its
// configuration holds the public halves of the keys.
func printInstallation(ctx context.Context, f *Factory, o *serverInstallOptions) error {
	cluster := install.Cluster{OpenShift: o.Expose == install.ExposeRoute}
	if o.WithZitadel && o.ProjectID == "" {
		return usageError(errors.New("what is set up in a Zitadel that does not run yet cannot be printed"), "install once with a cluster, or name the project and its apps with --project-id, --client-id and --dashboard-client-id")
	}
	if o.printSecrets && o.WithZitadel && cluster.OpenShift {
		return usageError(errors.New("the user ids of Zitadel's pods are the namespace's, which only the cluster knows"), "install without --print-secrets")
	}
	if !o.printSecrets {
		objects, err := o.Objects(cluster, nil)
		if err != nil {
			return err
		}
		return install.Print(f.Out, objects)
	}
	secrets, _, err := o.Complete(nil)
	if err != nil {
		return err
	}
	objects, err := o.SecretObjects(secrets)
	if err != nil {
		return err
	}
	releases, err := o.Releases(cluster, secrets)
	if err != nil {
		return err
	}
	// Rendered first: Secrets that nobody can use are not printed.
	var rendered strings.Builder
	for _, r := range releases {
		text, err := o.charts(f, nil).Render(ctx, r)
		if err != nil {
			return err
		}
		rendered.WriteString(text)
	}
	if err := install.Print(f.Out, objects); err != nil {
		return err
	}
	_, err = io.WriteString(f.Out, rendered.String())
	return err
}

// converge plans, shows, asks, applies, waits and tests.
func converge(ctx context.Context, f *Factory, i *install.Installer, o *serverInstallOptions) error {
	plan, err := i.Plan(ctx, o.Options)
	if err != nil {
		return explainKube(err)
	}
	updates := show(f, plan)
	if o.plan {
		if plan.Next != install.Complete {
			_, _ = fmt.Fprintf(f.Err, "the rest is planned once %s\n", plan.Next)
		}
		if len(plan.Changes) > 0 {
			return hint.WithCode(fmt.Errorf("%d objects would change", len(plan.Changes)), hint.CodeChanges)
		}
		return nil
	}
	if updates > 0 && !o.yes {
		if err := f.Confirm(ctx, fmt.Sprintf("Change or delete %d objects that are there?", updates), "--yes"); err != nil {
			return err
		}
	}
	if err := i.Apply(ctx, plan); err != nil {
		return explainKube(err)
	}
	all := plan.Changes
	for plan.Next != install.Complete {
		if err := takeStep(ctx, f, i, o, plan); err != nil {
			return explainKube(err)
		}
		if plan, err = i.Plan(ctx, o.Options); err != nil {
			return explainKube(err)
		}
		show(f, plan)
		if err := i.Apply(ctx, plan); err != nil {
			return explainKube(err)
		}
		all = append(all, plan.Changes...)
	}
	o.Options, plan.Changes = plan.Options, all
	var checks []install.Check
	if !o.noWait {
		if err := i.AwaitReady(ctx, &o.Options, o.timeout); err != nil {
			return explainKube(err)
		}
		if checks, err = smoke(ctx, f, i, o); err != nil {
			return err
		}
	}
	return reportInstallation(f, o, plan, checks)
}

// show prints a plan, and counts what it changes of what is there.
func show(f *Factory, plan *install.Plan) (updates int) {
	for _, c := range plan.Changes {
		_, _ = fmt.Fprintf(f.Err, "%s %s\n%s", c.Action, c.Object, c.Diff)
		if c.Action != install.Create {
			updates++
		}
	}
	return updates
}

// takeStep does what lies between two plans.
func takeStep(ctx context.Context, f *Factory, i *install.Installer, o *serverInstallOptions, plan *install.Plan) error {
	if plan.Next == install.NamespaceIDs {
		return i.AwaitIDs(ctx, o.Namespace)
	}
	if err := i.AwaitZitadel(ctx, &o.Options, o.timeout); err != nil {
		return err
	}
	token, err := i.SetupToken(ctx, &o.Options)
	if err != nil {
		return err
	}
	s := o.publicURLs()
	if err := s.AwaitIssuer(ctx, o.timeout); err != nil {
		return err
	}
	client, err := issuerClient(o.IssuerURL(), []byte(o.CA), fixedToken(token))
	if err != nil {
		return err
	}
	changes, err := o.SetUpIdentity(ctx, client)
	for _, c := range changes {
		_, _ = fmt.Fprintln(f.Err, printable(c))
	}
	return err
}

// smoke tests through the public URLs.
func smoke(ctx context.Context, f *Factory, i *install.Installer, o *serverInstallOptions) ([]install.Check, error) {
	s := o.publicURLs()
	var err error
	if s.NATSRoots, err = i.NATSRoots(ctx, &o.Options); err != nil {
		return nil, explainKube(err)
	}
	devices, err := f.issuerDevices(ctx, i, o)
	if err != nil {
		return nil, err
	}
	if devices != nil || o.Passwords {
		if s.Canary, err = i.Canary(ctx, &o.Options, devices); err != nil {
			return nil, explainKube(err)
		}
	}
	return s.Run(ctx), nil
}

// publicURLs are where everybody finds the installation.
func (o *serverInstallOptions) publicURLs() install.Smoke {
	s := install.Smoke{APIURL: o.APIURL(), Issuer: o.IssuerURL(), NATSURLs: o.DeviceNATSURLs(), Namespace: o.Namespace, Login: o.Login()}
	if o.CA != "" {
		s.Roots = x509.NewCertPool()
		s.Roots.AppendCertsFromPEM([]byte(o.CA))
	}
	return s
}

// issuerDevices makes devices' accounts at the issuer: with the token of a
// Zitadel beside us, else as whoever is signed in there; nil when nobody is.
func (f *Factory) issuerDevices(ctx context.Context, i *install.Installer, o *serverInstallOptions) (*provision.Devices, error) {
	var tokens apiclient.Session
	var err error
	if o.WithZitadel {
		var token string
		token, err = i.SetupToken(ctx, &o.Options)
		tokens = fixedToken(token)
	} else {
		tokens, err = f.issuerTokens(o.Issuer)
	}
	if err != nil {
		return nil, nil //nolint:nilerr // then it is not tested, which the answer says
	}
	client, err := issuerClient(o.IssuerURL(), []byte(o.CA), tokens)
	if err != nil {
		return nil, err
	}
	return &provision.Devices{Client: client, Project: o.ProjectID}, nil
}

func issuerClient(issuer string, caPEM []byte, tokens apiclient.Session) (*zitadel.Client, error) {
	through, err := trust.Client(caPEM)
	if err != nil {
		return nil, err
	}
	return zitadel.New(zitadel.Config{Issuer: issuer, HTTPClient: through, Token: func(ctx context.Context) (zitadel.Token, error) {
		token, err := tokens.Token(ctx)
		return zitadel.Token(token), err
	}})
}

// serverInstallResult is what scripts rely on.
type serverInstallResult struct {
	SchemaVersion int              `json:"schemaVersion"`
	Changes       []install.Change `json:"changes"`
	APIURL        string           `json:"apiURL"`
	Issuer        string           `json:"issuer"`
	NATSURLs      []string         `json:"natsURLs"`
	ClientID      string           `json:"clientID,omitempty"`
	AdminLogin    string           `json:"adminLogin,omitempty"` // of the Zitadel beside it
	Checks        []install.Check  `json:"checks,omitempty"`
	Warnings      []string         `json:"warnings,omitempty"` // what is not known to work
}

func reportInstallation(f *Factory, o *serverInstallOptions, plan *install.Plan, checks []install.Check) error {
	result := serverInstallResult{SchemaVersion: 1, Changes: plan.Changes, APIURL: o.APIURL(), Issuer: o.IssuerURL(),
		NATSURLs: o.DeviceNATSURLs(), ClientID: o.ClientID, Checks: checks, Warnings: warningsOf(checks)}
	if o.WithZitadel {
		result.AdminLogin = o.AdminLogin()
	}
	if err := f.Print(result, func(w io.Writer) error { return result.text(w, o) }); err != nil {
		return err
	}
	if err := failures(checks); err != nil {
		return hint.Wrap(fmt.Errorf("everything is installed, and does not work through its public URLs yet: %w", err),
			"docs/runbook.md has the cause of each; then run the same command again")
	}
	return nil
}

func (r serverInstallResult) text(w io.Writer, o *serverInstallOptions) error {
	lines := append([]string{fmt.Sprintf("%d objects changed", len(r.Changes))}, checkLines(r.Checks)...)
	lines = append(lines, "", "API and dashboard   "+r.APIURL, "issuer              "+r.Issuer,
		"NATS, for devices   "+strings.Join(r.NATSURLs, ", "))
	if r.ClientID != "" {
		lines = append(lines, "client id           "+r.ClientID)
	}
	if r.AdminLogin != "" {
		lines = append(lines, "login name          "+r.AdminLogin,
			"first password      kubectl get secret -n "+o.Namespace+" fleet-zitadel -o jsonpath='{.data.admin-password}' | base64 -d")
	}
	lines = append(lines, "", "next:", "  "+o.Login(), "  fleetctl onboard pi@192.0.2.7")
	if len(o.NATSURLs) > 0 {
		lines = append(lines, "", "The NATS servers need the accounts in: kubectl get configmap -n "+o.Namespace+" fleet-nats-accounts")
	}
	for _, warning := range r.Warnings {
		lines = append(lines, "", "WARNING: "+warning)
	}
	_, err := fmt.Fprintln(w, strings.Join(lines, "\n"))
	return err
}
