package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strings"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/identity/session"
	"github.com/nationtech/fleetctl/internal/identity/trust"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
)

// loginTarget is the context that a sign-in makes, or makes anew: flags first,
// then what the server says, then what was there.
func (f *Factory) loginTarget(ctx context.Context, o loginOptions) (target, error) {
	_, all, err := f.contexts()
	if err != nil {
		return target{}, err
	}
	name, err := f.chosenContext()
	if err != nil {
		return target{}, err
	}
	before := all.Contexts[name]
	if name == "" && o.server == "" && o.issuer == "" && f.chosenServerDir() == "" {
		name, before = all.Current, all.Contexts[all.Current]
	}
	local, err := f.Endpoints()
	if err != nil {
		if f.chosenServerDir() != "" {
			return target{}, err
		}
		local = &Endpoints{} // there is none here
	}
	c := session.Context{Issuer: o.issuer, ClientID: o.clientID, ProjectID: o.projectID, Scopes: o.scopes}
	c.Server = cmp.Or(strings.TrimSuffix(o.server, "/"), before.Server)
	if c.Server == "" && before.Issuer == "" {
		c.Server = local.APIURL
	}
	if c.Server == "" && c.Issuer == "" && before.Issuer == "" {
		return target{}, usageError(errors.New("no control plane to sign in to: there is none on this machine"), "name one with: fleetctl login --server https://HOST:7443")
	}
	if c.Server == "" {
		c.Issuer, c.ClientID, c.ProjectID = cmp.Or(c.Issuer, before.Issuer), cmp.Or(c.ClientID, before.ClientID), cmp.Or(c.ProjectID, before.ProjectID)
		if o.scopes == nil {
			c.Scopes = before.Scopes
		}
	}
	if c.CAPEM, err = knownCA(o, c, before, local); err != nil {
		return target{}, err
	}
	if c.Server != "" {
		if err := f.askServer(ctx, &c, o); err != nil {
			return target{}, err
		}
	}
	if o.caFingerprint != "" {
		if authority, err := trust.Read([]byte(c.CAPEM)); err != nil || !authority.Is(o.caFingerprint) {
			return target{}, hint.WithCode(hint.New("the authority of "+cmp.Or(c.Server, c.Issuer)+" has another fingerprint than --ca-fingerprint: "+authority.Fingerprint,
				"compare with what fleet-server prints when it starts; if it differs, somebody may be in between"), hint.CodeAuth)
		}
	}
	c.Kubeconfig, c.KubeContext = before.Kubeconfig, before.KubeContext
	if name == "" {
		name = newContextName(all, c)
	}
	return target{name: name, context: c}, nil
}

// knownCA is the authority that needs no question: the flag's, that of the
// server on this machine, or the one that was trusted before.
func knownCA(o loginOptions, c, before session.Context, local *Endpoints) (string, error) {
	path := o.caFile
	switch {
	case path != "":
	case c.Server != "" && c.Server == local.APIURL:
		path = local.CAFile
	case c.Server == before.Server || c.Server == "" && c.Issuer == before.Issuer:
		return before.CAPEM, nil
	default:
		return "", nil
	}
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return "", usageError(fmt.Errorf("read the CA: %w", err), "copy pki/ca.crt from the server's data directory, and name it with --ca-file FILE")
	case err != nil:
		return "", fmt.Errorf("read the CA: %w", err)
	}
	if _, err := trust.Read(data); err != nil {
		return "", usageError(fmt.Errorf("read the CA %s: %w", path, err), "--ca-file wants PEM: copy pki/ca.crt from the server's data directory")
	}
	return string(data), nil
}

// askServer fills in what the server says of itself. A person is asked once
// whether its authority is the right one.
func (f *Factory) askServer(ctx context.Context, c *session.Context, o loginOptions) error {
	said, err := signIn(ctx, *c)
	if trust.Unknown(err) && o.caFile == "" {
		authority, askErr := trust.Ask(ctx, c.Server)
		if askErr != nil {
			return askErr
		}
		if err := f.agreeToTrust(ctx, c.Server, authority, o.caFingerprint); err != nil {
			return err
		}
		c.CAPEM = string(authority.PEM)
		said, err = signIn(ctx, *c)
	}
	if err != nil {
		return err
	}
	if c.CAPEM == "" {
		c.CAPEM = said.CAPEM // of issuer and Kubernetes; a public authority vouches for the server that says so
	}
	c.KubernetesURL = said.KubernetesURL
	if c.Issuer == "" || c.Issuer == said.Issuer {
		c.Issuer = said.Issuer
		c.ProjectID = cmp.Or(c.ProjectID, said.ProjectID)
		c.ClientID = cmp.Or(c.ClientID, said.ClientID)
	}
	if c.Issuer == "" || c.ClientID == "" {
		return hint.New("the server "+c.Server+" names no issuer", "name it with --issuer URL --client-id ID")
	}
	return nil
}

func signIn(ctx context.Context, c session.Context) (api.SignIn, error) {
	client, err := apiclient.New(c.Server, []byte(c.CAPEM), "")
	if err != nil {
		return api.SignIn{}, err
	}
	return client.SignIn(ctx)
}

// agreeToTrust is trust on first use.
func (f *Factory) agreeToTrust(ctx context.Context, server string, a trust.Authority, fingerprint string) error {
	if fingerprint != "" {
		return nil // loginTarget compares it, wherever the authority is from
	}
	fmt.Fprintf(f.Err, "%s has a certificate of an authority that this machine does not know:\n  %s\n  SHA-256 %s\n"+
		"fleet-server prints the fingerprint when it starts, and has it in endpoints.json.\n", server, printable(a.Subject), a.Fingerprint)
	return f.Confirm(ctx, "Is that the fingerprint of your server, and shall it be trusted from now on?",
		"--ca-file FILE (pki/ca.crt of the server's data directory) or --ca-fingerprint "+a.Fingerprint+" after comparing it")
}

var notInNames = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

// newContextName names a context for its server's host.
func newContextName(all session.Contexts, c session.Context) string {
	u, err := url.Parse(cmp.Or(c.Server, c.Issuer))
	if err != nil {
		return "fleet"
	}
	name := u.Hostname()
	if addr, err := netip.ParseAddr(name); name == "localhost" || err == nil && addr.IsLoopback() {
		name = "local"
	}
	name = strings.Trim(notInNames.ReplaceAllString(name, "-"), ".-")
	if taken, ok := all.Contexts[name]; ok && (taken.Server != c.Server || c.Server == "" && taken.Issuer != c.Issuer) {
		name += "-" + u.Port()
	}
	if session.ValidateName(name) != nil {
		return "fleet"
	}
	return name
}
