package zitadel

import (
	"cmp"
	"context"
	"net/http"
	"slices"
)

// What an OIDC app can be. Zitadel leaves the first of each out of its answers,
// as protobuf does with zero values.
const (
	AppWeb       = "OIDC_APP_TYPE_WEB"
	AppNative    = "OIDC_APP_TYPE_NATIVE"
	AuthBasic    = "OIDC_AUTH_METHOD_TYPE_BASIC"
	AuthNone     = "OIDC_AUTH_METHOD_TYPE_NONE"
	GrantCode    = "OIDC_GRANT_TYPE_AUTHORIZATION_CODE"
	GrantRefresh = "OIDC_GRANT_TYPE_REFRESH_TOKEN"
	GrantDevice  = "OIDC_GRANT_TYPE_DEVICE_CODE"

	responseCode = "OIDC_RESPONSE_TYPE_CODE"
	tokenJWT     = "OIDC_TOKEN_TYPE_JWT"
)

// OIDCConfig is what is chosen of an app that people sign in to.
type OIDCConfig struct {
	AppType                string   `json:"appType,omitempty"`
	AuthMethod             string   `json:"authMethodType,omitempty"`
	GrantTypes             []string `json:"grantTypes,omitempty"`
	RedirectURIs           []string `json:"redirectUris,omitempty"`
	PostLogoutRedirectURIs []string `json:"postLogoutRedirectUris,omitempty"`
}

// normal fills in what answers leave out, and orders what has no order.
func (o OIDCConfig) normal() OIDCConfig {
	o.AppType, o.AuthMethod = cmp.Or(o.AppType, AppWeb), cmp.Or(o.AuthMethod, AuthBasic)
	if len(o.GrantTypes) == 0 {
		o.GrantTypes = []string{GrantCode}
	}
	for _, list := range []*[]string{&o.GrantTypes, &o.RedirectURIs, &o.PostLogoutRedirectURIs} {
		*list = slices.Compact(slices.Sorted(slices.Values(*list)))
	}
	return o
}

// Equal says whether two mean the same.
func (o OIDCConfig) Equal(other OIDCConfig) bool {
	a, b := o.normal(), other.normal()
	return a.AppType == b.AppType && a.AuthMethod == b.AuthMethod && slices.Equal(a.GrantTypes, b.GrantTypes) &&
		slices.Equal(a.RedirectURIs, b.RedirectURIs) && slices.Equal(a.PostLogoutRedirectURIs, b.PostLogoutRedirectURIs)
}

// request is the configuration with what never varies: tokens are JWTs that
// everybody can check, and carry roles. The embedded issuer does nothing else
// and ignores what says so.
func (o OIDCConfig) request() map[string]any {
	o = o.normal()
	return map[string]any{
		"appType": o.AppType, "authMethodType": o.AuthMethod, "grantTypes": o.GrantTypes,
		"responseTypes": []string{responseCode}, "redirectUris": o.RedirectURIs, "postLogoutRedirectUris": o.PostLogoutRedirectURIs,
		"accessTokenType": tokenJWT, "accessTokenRoleAssertion": true, "idTokenRoleAssertion": true, "idTokenUserinfoAssertion": true,
	}
}

// App is one of a project's; one of OIDC and API is set.
type App struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	OIDC *struct {
		ClientID string `json:"clientId"`
		OIDCConfig
	} `json:"oidcConfig"`
	API *struct {
		ClientID string `json:"clientId"`
	} `json:"apiConfig"`
}

// ClientID is what the app is called in OpenID Connect; Zitadel's are numbers.
func (a App) ClientID() string {
	switch {
	case a.OIDC != nil:
		return a.OIDC.ClientID
	case a.API != nil:
		return a.API.ClientID
	}
	return ""
}

// NewApp is what making an app gives. Secret is shown this once.
type NewApp struct {
	ID       string `json:"appId"`
	ClientID string `json:"clientId"`
	Secret   Token  `json:"clientSecret"`
}

// Apps gives the apps of that name; "" for all.
func (c *Client) Apps(ctx context.Context, project, name string) ([]App, error) {
	return search[App](ctx, c, "list apps", named("nameQuery", "name", name), "projects", project, "apps")
}

// AddOIDCApp makes an app that people sign in to.
func (c *Client) AddOIDCApp(ctx context.Context, project, name string, cfg OIDCConfig) (a NewApp, err error) {
	in := cfg.request()
	in["name"] = name
	return a, c.call(ctx, "make app "+name, http.MethodPost, in, &a, "projects", project, "apps", "oidc")
}

// SetOIDCApp changes an app's configuration.
func (c *Client) SetOIDCApp(ctx context.Context, project, app string, cfg OIDCConfig) error {
	err := c.call(ctx, "change app "+app, http.MethodPut, cfg.request(), nil, "projects", project, "apps", app, "oidc_config")
	if isUnchanged(err) {
		return nil
	}
	return err
}

// AddAPIApp makes an app for a server that takes tokens.
func (c *Client) AddAPIApp(ctx context.Context, project, name string) (a NewApp, err error) {
	in := map[string]any{"name": name, "authMethodType": "API_AUTH_METHOD_TYPE_BASIC"}
	return a, c.call(ctx, "make app "+name, http.MethodPost, in, &a, "projects", project, "apps", "api")
}
