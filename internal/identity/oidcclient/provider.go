// Package oidcclient signs a person in at an OpenID Connect issuer by device
// code (RFC 8628), goes on with the session by refresh tokens, and ends it. It
// finds everything by discovery, so any issuer serves; its errors carry the
// next thing to type. Where a session is kept is package session's affair.
package oidcclient

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/identity/zitadel"
)

// Scopes of Zitadel's and the embedded issuer's (https://zitadel.com/docs/apis/openidoauth/scopes).
const (
	scopeRoles = "urn:zitadel:iam:org:projects:roles" // plural, or tokens have no roles
	scopeEmail = "email"
)

// Config says where to sign in, as what.
type Config struct {
	Issuer   string
	ClientID string
	// ProjectID of a Zitadel or an embedded issuer; roles are asked for and
	// tokens are for that project. Other issuers have none.
	ProjectID  string
	Scopes     []string         // beside the usual ones
	HTTPClient *http.Client     // its timeout bounds each request
	Now        func() time.Time // nil: time.Now
}

func (c Config) scopes() []string {
	out := []string{oidc.ScopeOpenID, "profile", scopeEmail, oidc.ScopeOfflineAccess}
	if c.ProjectID != "" {
		// The last makes the token good for the management API, where enrolment
		// makes devices' accounts in the person's name.
		out = append(out, scopeRoles, "urn:zitadel:iam:org:project:id:"+c.ProjectID+":aud", zitadel.ScopeAPI)
	}
	for _, s := range c.Scopes {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// Provider is an issuer that was discovered.
type Provider struct {
	cfg      Config
	oauth    oauth2.Config
	oidc     *oidc.Provider
	dates    *dates
	client   *http.Client
	endpoint struct {
		Revocation string `json:"revocation_endpoint"`
	}
}

// Discover asks the issuer how it is used (OpenID Connect Discovery 1.0).
func Discover(ctx context.Context, cfg Config) (*Provider, error) {
	if u, err := url.Parse(cfg.Issuer); err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, hint.WithCode(hint.New(fmt.Sprintf("issuer %q is not an https URL", cfg.Issuer), "write it as https://HOST[:PORT]"), hint.CodeUsage)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.HTTPClient == nil {
		cfg.HTTPClient = &http.Client{Timeout: 30 * time.Second}
	}
	p := &Provider{cfg: cfg, dates: &dates{now: cfg.Now, base: cfg.HTTPClient.Transport}}
	watched := *cfg.HTTPClient
	watched.Transport = p.dates
	p.client = &watched
	var err error
	if p.oidc, err = oidc.NewProvider(p.context(ctx), cfg.Issuer); err != nil {
		return nil, p.explainDiscovery(ctx, err)
	}
	if err := p.oidc.Claims(&p.endpoint); err != nil {
		return nil, p.explainDiscovery(ctx, err)
	}
	endpoint := p.oidc.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInParams // a public client has no secret to put anywhere else
	p.oauth = oauth2.Config{ClientID: cfg.ClientID, Endpoint: endpoint, Scopes: cfg.scopes()}
	return p, nil
}

// context carries the HTTP client to the libraries that look for it there.
func (p *Provider) context(ctx context.Context) context.Context {
	return oidc.ClientContext(ctx, p.client)
}

// Revoke ends the session that a refresh token belongs to (RFC 7009).
func (p *Provider) Revoke(ctx context.Context, refreshToken Secret) error {
	what := "end the session at " + p.cfg.Issuer
	if p.endpoint.Revocation == "" {
		return fmt.Errorf("%s: it offers no revocation", what)
	}
	form := url.Values{"token": {string(refreshToken)}, "token_type_hint": {"refresh_token"}, "client_id": {p.cfg.ClientID}}
	resp, err := postForm(ctx, p.client, p.endpoint.Revocation, form)
	if err != nil {
		return p.explain(ctx, what, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: HTTP %s", what, resp.Status)
	}
	return nil
}

// errNoDeviceFlow is what an issuer says that has no device codes at all.
var errNoDeviceFlow = errors.New("it offers no sign-in by device code (RFC 8628)")
