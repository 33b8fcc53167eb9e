package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/identity/provision"
	"github.com/nationtech/fleetctl/internal/identity/session"
	"github.com/nationtech/fleetctl/internal/identity/trust"
	"github.com/nationtech/fleetctl/internal/identity/zitadel"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
	"github.com/nationtech/fleetctl/onboard"
)

// identityOptions say as whom the issuer is asked to make devices' identities.
type identityOptions struct {
	required   bool // a pre-shared key is no choice
	rotate     bool
	orgID      string
	tokenStdin bool
	server     string
	caFile     string
	caPrint    string

	token apiclient.Session // from stdin
}

func (o *identityOptions) register(flags *pflag.FlagSet) {
	flags.StringVar(&o.orgID, "org-id", "", "`id` of the issuer's organisation that has the fleet's project (default: your own)")
	flags.BoolVar(&o.tokenStdin, "token-stdin", false, "read an access token, or a personal access token, for the issuer from stdin")
	flags.StringVar(&o.server, "server", "", "`URL` of fleet-server's HTTPS API to sign in to for this run alone")
	flags.StringVar(&o.caFile, "ca-file", "", "with --server: `file` with the authority to trust")
	flags.StringVar(&o.caPrint, "ca-fingerprint", "", "with --server: SHA-256 `fingerprint` of the server's authority")
}

// signInOnce signs in to --server for this run alone: the session is kept in
// memory and ended at the end. Without --server it does nothing.
func (o *identityOptions) signInOnce(ctx context.Context, f *Factory) (end func(), err error) {
	if o.tokenStdin {
		line, err := readSecretLine(f.In)
		if err != nil {
			return nil, usageError(fmt.Errorf("--token-stdin: %w", err), "pipe the token, one line, into fleetctl")
		}
		o.token = fixedToken(line)
	}
	if o.server == "" {
		if o.caFile != "" || o.caPrint != "" {
			return nil, usageError(errors.New("--ca-file and --ca-fingerprint say whom to trust as --server"), "add --server URL, or leave them out")
		}
		return func() {}, nil
	}
	return f.signInOnce(ctx, loginOptions{server: o.server, caFile: o.caFile, caFingerprint: o.caPrint}, o.token)
}

// identities is the issuer of the server's devices, called as the person. It is
// nil when the server takes pre-shared keys and nobody is signed in.
func (o *identityOptions) identities(ctx context.Context, f *Factory, server *fleetServer) (onboard.Identities, error) {
	signIn, err := server.api.SignIn(ctx)
	if err != nil {
		return nil, err
	}
	if signIn.Issuer == "" || signIn.ProjectID == "" {
		if o.required {
			return nil, hint.New("the server has no issuer for devices", "set one up with: fleetctl server setup-identity")
		}
		return nil, nil
	}
	devices, err := o.devices(ctx, f, signIn)
	if errors.Is(err, session.ErrSignedOut) && signIn.PSK && !o.required {
		fmt.Fprintln(f.Err, "warning: nobody is signed in, so devices get pre-shared keys, which are for laboratories")
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := devices.Check(ctx); err != nil {
		return nil, err
	}
	return deviceIdentities{devices, f}, nil
}

// accounts is the issuer for who is signed in there, else nil: fleet-server
// removes the accounts of devices at its own issuer by itself.
func (o *identityOptions) accounts(ctx context.Context, f *Factory, server *fleetServer) (*provision.Devices, error) {
	signIn, err := server.api.SignIn(ctx)
	if err != nil || signIn.Issuer == "" {
		return nil, err
	}
	devices, err := o.devices(ctx, f, signIn)
	if errors.Is(err, session.ErrSignedOut) {
		return nil, nil
	}
	return &devices, err
}

// devices calls the issuer that the server names: with the token from stdin,
// the session of this run, or a session of the same issuer.
func (o *identityOptions) devices(ctx context.Context, f *Factory, signIn api.SignIn) (provision.Devices, error) {
	tokens, err := o.token, error(nil)
	if tokens == nil {
		if tokens, err = f.issuerTokens(signIn.Issuer); err != nil {
			return provision.Devices{}, err
		}
		if _, err := tokens.Token(ctx); err != nil {
			return provision.Devices{}, err
		}
	}
	client, err := trust.Client([]byte(signIn.CAPEM))
	if err != nil {
		return provision.Devices{}, err
	}
	z, err := zitadel.New(zitadel.Config{Issuer: signIn.Issuer, OrgID: o.orgID, HTTPClient: client, Token: func(ctx context.Context) (zitadel.Token, error) {
		token, err := tokens.Token(ctx)
		return zitadel.Token(token), err
	}})
	return provision.Devices{Client: z, Project: signIn.ProjectID}, err
}

// issuerTokens finds a session at the issuer: of the context that this command
// is for, or, where that is a server's directory, of any context that has it.
func (f *Factory) issuerTokens(issuer string) (apiclient.Session, error) {
	switch t, err := f.target(); {
	case err != nil && f.chose():
		return nil, err
	case err == nil && t.local == nil && t.context.Issuer == issuer:
		return f.tokensOf(t)
	}
	store, err := f.Sessions()
	if err != nil {
		return nil, err
	}
	all, err := store.Contexts()
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(all.Contexts)) {
		if c := all.Contexts[name]; c.Issuer == issuer {
			if _, err := store.Session(name); err == nil {
				return f.source(name, c)
			}
		}
	}
	return nil, hint.WithCode(hint.Wrap(fmt.Errorf("%w at the issuer %s", session.ErrSignedOut, issuer),
		"sign in as an administrator with: fleetctl login; or pipe a token into --token-stdin"), hint.CodeAuth)
}

// fixedToken is a token that cannot be renewed.
type fixedToken string

// Token implements apiclient.Session.
func (t fixedToken) Token(context.Context) (string, error) { return string(t), nil }

// Renew implements apiclient.Session.
func (t fixedToken) Renew(context.Context, string) (string, error) { return string(t), nil }

func (fixedToken) String() string   { return "[redacted]" }
func (fixedToken) GoString() string { return "[redacted]" }

// deviceIdentities implements onboard.Identities.
type deviceIdentities struct {
	provision.Devices
	factory *Factory
}

func (d deviceIdentities) Good(ctx context.Context, device, userID, keyID string) error {
	a, err := d.Look(ctx, device)
	switch {
	case err != nil:
		return err
	case a.UserID != userID: // "" when the device has no account yet
		return fmt.Errorf("%w than %s", onboard.ErrOthersKey, device)
	case !a.Active:
		return fmt.Errorf("%w: user %s is switched off", onboard.ErrNoIdentity, provision.DeviceUser(device))
	case !a.Granted:
		return fmt.Errorf("%w: user %s has not the device's role alone", onboard.ErrNoIdentity, provision.DeviceUser(device))
	case !a.Good(keyID):
		return fmt.Errorf("%w: it does not know the device's key", onboard.ErrNoIdentity)
	}
	return nil
}

func (d deviceIdentities) Register(ctx context.Context, device, publicKey string) (onboard.Identity, error) {
	a, err := d.Ensure(ctx, device)
	if err != nil {
		return onboard.Identity{}, err
	}
	key, err := d.Devices.Register(ctx, a.UserID, publicKey)
	if err != nil {
		return onboard.Identity{}, err
	}
	if key.File != "" {
		fmt.Fprintf(d.factory.Err, "warning: %s: the issuer takes no public keys, so it made the key pair, and the private half goes over the network once; newer Zitadels take the device's own\n", device)
	}
	return onboard.Identity{UserID: a.UserID, KeyID: key.ID, KeyFile: onboard.Secret(strings.TrimSpace(string(key.File)))}, nil
}

func (d deviceIdentities) Prune(ctx context.Context, i onboard.Identity) error {
	return d.Devices.Prune(ctx, i.UserID, i.KeyID)
}
