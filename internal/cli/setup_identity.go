package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/identity/provision"
	"github.com/nationtech/fleetctl/internal/identity/trust"
	"github.com/nationtech/fleetctl/internal/identity/zitadel"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
	"github.com/nationtech/fleetctl/internal/wire"
)

// dashboardCallback is where the dashboard takes codes (internal/dashboard).
const dashboardCallback = "/auth/callback"

type setupIdentityOptions struct {
	issuer     string
	caFile     string
	orgID      string
	project    string
	dashboards []string
	keysDir    string
	tokenStdin bool
}

func newSetupIdentityCmd(f *Factory) *cobra.Command {
	var o setupIdentityOptions
	cmd := &cobra.Command{
		Use:   "setup-identity",
		Short: "Make at an issuer what a fleet needs there",
		Long: `Makes at an issuer what a fleet needs there: a project with its roles, an app with
device codes for fleetctl, a web app for the dashboard, an API app, and a machine
user with a key for each program of the control plane that runs by itself. The
issuer is a Zitadel, or fleet-server's own, which has most of it already.

The issuer is asked each time, and nothing that is there is made again. Key pairs
are made on this machine; the private halves are in --keys-dir, readable by you
alone, and only the public halves are registered.

A Zitadel that is new wants a personal access token of a user with the manager role
Org Owner, piped into --token-stdin; later a sign-in with fleetctl login serves.`,
		Example: `  fleetctl server setup-identity
  fleetctl server setup-identity --issuer https://id.example.com --dashboard-url https://fleet.example.com --token-stdin < token
  fleetctl server setup-identity --org-id 310000000000000001 -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runSetupIdentity(cmd.Context(), f, o) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.issuer, "issuer", "", "`URL` of the issuer (default: that of the context, or of the server on this machine)")
	flags.StringVar(&o.caFile, "ca-file", "", "`file` with the issuer's authority, beside the system's")
	flags.StringVar(&o.orgID, "org-id", "", "`id` of the organisation to make it in (default: your own)")
	flags.StringVar(&o.project, "project", provision.ProjectName, "`name` of the project")
	flags.StringArrayVar(&o.dashboards, "dashboard-url", nil, "`URL` at which people open the dashboard; repeatable (default: that of the server)")
	flags.StringVar(&o.keysDir, "keys-dir", "", "`directory` of the key files (default: identity/ISSUER in fleetctl's configuration)")
	flags.BoolVar(&o.tokenStdin, "token-stdin", false, "read an access token, or a personal access token, for the issuer from stdin")
	return cmd
}

// setupIdentityResult is what scripts get.
type setupIdentityResult struct {
	SchemaVersion int          `json:"schemaVersion"`
	Issuer        string       `json:"issuer"`
	OrgID         string       `json:"orgId"`
	OrgName       string       `json:"orgName"`
	ProjectID     string       `json:"projectId"`
	CLIClientID   string       `json:"cliClientId"`
	Dashboard     string       `json:"dashboardClientId,omitempty"`
	APIClientID   string       `json:"apiClientId"`
	Services      []serviceKey `json:"services"`
	Changes       []string     `json:"changes"`
	Login         string       `json:"login"`  // the command
	Enroll        string       `json:"enroll"` // likewise
}

type serviceKey struct {
	Name    string `json:"name"`
	UserID  string `json:"userId"`
	KeyFile string `json:"keyFile"`
}

func runSetupIdentity(ctx context.Context, f *Factory, o setupIdentityOptions) error {
	server, err := o.fill(ctx, f)
	if err != nil {
		return err
	}
	client, err := o.client(ctx, f)
	if err != nil {
		return err
	}
	wish := provision.Wish{Project: o.project}
	for _, raw := range o.dashboards {
		u, err := url.Parse(raw)
		if err != nil || u.Scheme != "https" || u.Host == "" {
			return usageError(fmt.Errorf("--dashboard-url %q is not an https URL", raw), "write it as https://HOST[:PORT]")
		}
		wish.RedirectURIs = append(wish.RedirectURIs, u.JoinPath(dashboardCallback).String())
		wish.LogoutURIs = append(wish.LogoutURIs, u.JoinPath("/").String())
	}
	keys := serviceKeys{client: client, dir: o.keysDir}
	wish.Service = keys.ensure
	made, err := provision.Make(ctx, client, wish)
	for _, c := range made.Changes {
		fmt.Fprintln(f.Err, printable(c))
	}
	if err != nil {
		return err
	}
	result := setupIdentityResult{
		SchemaVersion: wire.SchemaVersion, Issuer: o.issuer, OrgID: made.Org.ID, OrgName: made.Org.Name, ProjectID: made.Project.ID,
		CLIClientID: made.CLIClientID, Dashboard: made.DashboardClientID, APIClientID: made.APIClientID, Changes: append([]string{}, made.Changes...),
		Login: fmt.Sprintf("fleetctl login --server %s --issuer %s --client-id %s --project-id %s",
			cmp.Or(server, "https://FLEET-SERVER:7443"), o.issuer, made.CLIClientID, made.Project.ID),
		Enroll: "fleetctl enroll USER@HOST",
	}
	if o.orgID != "" {
		result.Enroll += " --org-id " + o.orgID
	}
	for _, s := range provision.Services {
		result.Services = append(result.Services, serviceKey{Name: s.Name, UserID: made.Users[s.Name], KeyFile: keys.path(s)})
	}
	return f.Print(result, result.write)
}

// fill completes the options with what the control plane at hand says of
// itself, and gives its URL; "" where there is none.
func (o *setupIdentityOptions) fill(ctx context.Context, f *Factory) (server string, err error) {
	if t, failed := f.target(); failed == nil {
		own, url := t.context.Issuer, t.context.Server
		if t.local != nil {
			own, url = t.local.Issuer, t.local.APIURL
		}
		if o.issuer == "" || o.issuer == own {
			o.issuer, server = own, url
		}
	}
	if o.issuer == "" {
		return "", usageError(errors.New("which issuer?"), "name it with --issuer URL, or sign in to a control plane with: fleetctl login")
	}
	if len(o.dashboards) == 0 && server != "" {
		o.dashboards = []string{server}
	}
	if o.keysDir == "" {
		dir, err := f.ConfigDir()
		if err != nil {
			return "", err
		}
		u, err := url.Parse(o.issuer)
		if err != nil {
			return "", usageError(fmt.Errorf("--issuer: %w", err), "write it as https://HOST[:PORT]")
		}
		o.keysDir = filepath.Join(dir, "identity", strings.ReplaceAll(u.Host, ":", "-"))
	}
	o.keysDir, err = filepath.Abs(o.keysDir)
	return server, err
}

func (o *setupIdentityOptions) client(ctx context.Context, f *Factory) (*zitadel.Client, error) {
	var tokens apiclient.Session
	if o.tokenStdin {
		line, err := readSecretLine(f.In)
		if err != nil {
			return nil, usageError(fmt.Errorf("--token-stdin: %w", err), "pipe the token, one line, into fleetctl")
		}
		tokens = fixedToken(line)
	} else {
		var err error
		if tokens, err = f.issuerTokens(o.issuer); err != nil {
			return nil, err
		}
	}
	ca, err := o.authority(f)
	if err != nil {
		return nil, err
	}
	client, err := trust.Client(ca)
	if err != nil {
		return nil, err
	}
	return zitadel.New(zitadel.Config{Issuer: o.issuer, OrgID: o.orgID, HTTPClient: client, Token: func(ctx context.Context) (zitadel.Token, error) {
		token, err := tokens.Token(ctx)
		return zitadel.Token(token), err
	}})
}

// authority is that of --ca-file, else the one known for this issuer.
func (o *setupIdentityOptions) authority(f *Factory) ([]byte, error) {
	path := o.caFile
	if t, err := f.target(); path == "" && err == nil {
		if t.local == nil && t.context.Issuer == o.issuer {
			return []byte(t.context.CAPEM), nil
		}
		if t.local != nil && t.local.Issuer == o.issuer {
			path = t.local.CAFile
		}
	}
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, hint.WithCode(fmt.Errorf("read the issuer's authority: %w", err), hint.CodeUsage)
	}
	return data, nil
}

func (r setupIdentityResult) write(w io.Writer) error {
	rows := [][2]string{
		{"issuer", r.Issuer},
		{"organisation", r.OrgName + " (id " + r.OrgID + ")"},
		{"project id", r.ProjectID},
		{"client id of fleetctl", r.CLIClientID},
	}
	if r.Dashboard != "" {
		rows = append(rows, [2]string{"client id of the dashboard", r.Dashboard})
	}
	rows = append(rows, [2]string{"client id of the API", r.APIClientID})
	for _, s := range r.Services {
		rows = append(rows, [2]string{"key of the " + s.Name, s.KeyFile})
	}
	for _, row := range rows {
		fmt.Fprintf(w, "%-28s%s\n", row[0], printable(row[1]))
	}
	changed := "nothing had to be made"
	if n := len(r.Changes); n > 0 {
		changed = fmt.Sprintf("%d changed", n)
	}
	_, err := fmt.Fprintf(w, "%s\n\nSign in, then enrol devices:\n  %s\n  %s\n", changed, r.Login, r.Enroll)
	return err
}
