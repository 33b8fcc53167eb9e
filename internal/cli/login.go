package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/identity/oidcclient"
	"github.com/nationtech/fleetctl/internal/identity/session"
)

type loginOptions struct {
	server        string
	issuer        string
	clientID      string
	projectID     string
	scopes        []string
	caFile        string
	caFingerprint string
	noBrowser     bool
	noKubeconfig  bool
}

func newLoginCmd(f *Factory) *cobra.Command {
	var o loginOptions
	cmd := &cobra.Command{
		Use:   "login",
		Short: "Sign in to a control plane, for fleetctl and kubectl",
		Long: `Sign in to a control plane, at its OpenID Connect issuer, with a code that you
approve in a browser on any device. The browser opens by itself where there is a
graphical session; the address and the code are always printed.

fleetctl asks the server where to sign in and where its Kubernetes API is. Any
other issuer with device codes (RFC 8628) can be named with --issuer and
--client-id. The sign-in is kept as a context, which becomes the current one, and
written into the kubeconfig as a context whose credential plugin is fleetctl; see
fleetctl context and fleetctl token.

A server on this machine is trusted by the CA in its data directory. One that is
elsewhere, with a CA of its own, is asked for that CA, and you are asked to compare
its fingerprint with what fleet-server printed; scripts give --ca-file or
--ca-fingerprint. A certificate is never left unchecked.

With --output json every step is one line of JSON on standard output: first
{"event":"code","url":…,"userCode":…}, then {"event":"signedIn",…}.`,
		Example: `  fleetctl login
  fleetctl login --server https://fleet.example.com:7443
  fleetctl login --context prod --server https://fleet.example.com:7443 --ca-file ca.crt
  fleetctl login --server https://fleet.example.com:7443 --issuer https://id.example.com --client-id 3141592653589`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runLogin(cmd.Context(), f, o) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.server, "server", "", "`URL` of fleet-server's HTTPS API (default: that of --context, --server-dir, the current context, or the server on this machine)")
	flags.StringVar(&o.issuer, "issuer", "", "`URL` of the OpenID Connect issuer (default: what the server says)")
	flags.StringVar(&o.clientID, "client-id", "", "`id` of the issuer's app for fleetctl (default: what the server says)")
	flags.StringVar(&o.projectID, "project-id", "", "`id` of the Zitadel project whose roles count (default: what the server says)")
	flags.StringArrayVar(&o.scopes, "scope", nil, "one more `scope` to ask for (repeatable)")
	flags.StringVar(&o.caFile, "ca-file", "", "`file` with the authority to trust, beside the system's")
	flags.StringVar(&o.caFingerprint, "ca-fingerprint", "", "SHA-256 `fingerprint` of the server's authority; then it is not asked about")
	flags.BoolVar(&o.noBrowser, "no-browser", false, "only print the address")
	flags.BoolVar(&o.noKubeconfig, "no-kubeconfig", false, "leave the kubeconfig alone")
	return cmd
}

func runLogin(ctx context.Context, f *Factory, o loginOptions) error {
	if o.issuer != "" && o.clientID == "" {
		return usageError(errors.New("--issuer needs --client-id: which app of the issuer fleetctl is"), "for example: --client-id 3141592653589")
	}
	t, err := f.loginTarget(ctx, o)
	if err != nil {
		return err
	}
	issuer, err := discover(ctx, t.context)
	if err != nil {
		return err
	}
	code, err := issuer.Begin(ctx)
	if err != nil {
		return err
	}
	if err := f.showCode(code, t.context.Issuer, !o.noBrowser); err != nil {
		return err
	}
	tokens, err := issuer.Wait(ctx, code)
	if err != nil {
		return err
	}
	s, err := f.keepSignIn(ctx, t, issuer, tokens)
	if err != nil {
		return err
	}
	done := signInEvent{Event: "signedIn", identity: identityOf(t, s), Greeting: s.User.Greeting()}
	if !o.noKubeconfig && t.context.KubernetesURL != "" {
		if done.Kubeconfig, done.KubeContext, done.kubeCurrent, err = f.writeKubeconfig(ctx, t); err != nil {
			return hint.Wrap(fmt.Errorf("signed in as %s, but kubectl is not: %w", done.Greeting, err), "leave it alone with --no-kubeconfig, or name a file with --kubeconfig FILE")
		}
	}
	return f.event(done, done.write)
}

// keepSignIn makes the session and its context, and ends the session of before.
func (f *Factory) keepSignIn(ctx context.Context, t target, issuer *oidcclient.Provider, tokens oidcclient.Tokens) (session.Session, error) {
	store, err := f.Sessions()
	if err != nil {
		return session.Session{}, err
	}
	old, err := store.Begin(ctx, t.name, t.context, tokens, time.Now())
	if err != nil {
		return session.Session{}, err
	}
	if err := store.Change(ctx, func(all *session.Contexts) error {
		all.Contexts[t.name], all.Current = t.context, t.name
		return nil
	}); err != nil {
		return session.Session{}, err
	}
	if old.Refresh != "" && old.Issuer == t.context.Issuer {
		if err := issuer.Revoke(ctx, old.Refresh); err != nil {
			f.Log().Warn("the session of before was not ended at the issuer", "op", "login", "error", err)
		}
	}
	return store.Session(t.name)
}

// signInEvent is the last line of a sign-in.
type signInEvent struct {
	Event string `json:"event"`
	identity
	Greeting    string `json:"greeting"`
	Kubeconfig  string `json:"kubeconfig,omitempty"`
	KubeContext string `json:"kubeContext,omitempty"`
	kubeCurrent bool
}

func (e signInEvent) write(w io.Writer) error {
	fmt.Fprintf(w, "Hello %s! You are signed in", printable(e.Greeting))
	if e.Server != "" {
		fmt.Fprintf(w, " to %s", e.Server)
	}
	fmt.Fprintln(w, ".")
	if err := e.identity.write(w, time.Now()); err != nil {
		return err
	}
	switch {
	case e.Kubeconfig == "":
	case e.kubeCurrent:
		fmt.Fprintf(w, "kubectl reaches this fleet now: kubectl get fleetdep,fleetdev\n")
	default:
		fmt.Fprintf(w, "kubectl reaches this fleet with: kubectl --context %s get fleetdep,fleetdev\n", e.KubeContext)
	}
	return nil
}
