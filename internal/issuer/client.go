package issuer

import (
	"context"
	"crypto/subtle"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/nationtech/fleetctl/internal/issuer/store"
)

// As Zitadel spells them.
const (
	appWeb       = "OIDC_APP_TYPE_WEB"
	appUserAgent = "OIDC_APP_TYPE_USER_AGENT"
	appNative    = "OIDC_APP_TYPE_NATIVE"
	authNone     = "OIDC_AUTH_METHOD_TYPE_NONE"
	authBasic    = "OIDC_AUTH_METHOD_TYPE_BASIC"
	grantCode    = "OIDC_GRANT_TYPE_AUTHORIZATION_CODE"
	grantRefresh = "OIDC_GRANT_TYPE_REFRESH_TOKEN"
	grantDevice  = "OIDC_GRANT_TYPE_DEVICE_CODE"
)

var grantNames = map[string]oidc.GrantType{
	grantCode: oidc.GrantTypeCode, grantRefresh: oidc.GrantTypeRefreshToken, grantDevice: oidc.GrantTypeDeviceCode,
}

// client is an app as op wants to see it.
type client struct{ store.App }

func (s *storage) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	app, err := s.store.Client(ctx, id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, oidc.ErrInvalidClient().WithDescription("there is no client with this id")
	case err != nil:
		return nil, oidc.ErrServerError().WithParent(err)
	}
	return client{app}, nil
}

func (s *storage) AuthorizeClientIDSecret(ctx context.Context, id, secret string) error {
	app, err := s.store.Client(ctx, id)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return oidc.ErrServerError().WithParent(err)
	}
	if err != nil || app.SecretHash == "" || subtle.ConstantTimeCompare([]byte(store.Hash(secret)), []byte(app.SecretHash)) != 1 {
		return oidc.ErrInvalidClient()
	}
	return nil
}

func (c client) GetID() string                    { return c.ClientID }
func (c client) RedirectURIs() []string           { return c.Config.RedirectURIs }
func (c client) PostLogoutRedirectURIs() []string { return c.Config.PostLogoutRedirectURIs }
func (c client) ResponseTypes() []oidc.ResponseType {
	return []oidc.ResponseType{oidc.ResponseTypeCode}
}
func (c client) LoginURL(id string) string { return loginPath + "?id=" + url.QueryEscape(id) }
func (c client) AccessTokenType() op.AccessTokenType {
	return op.AccessTokenTypeJWT // what others check by themselves
}
func (c client) IDTokenLifetime() time.Duration       { return idToken }
func (c client) DevMode() bool                        { return c.Config.DevMode }
func (c client) IsScopeAllowed(scope string) bool     { return strings.HasPrefix(scope, scopePrefix) }
func (c client) IDTokenUserinfoClaimsAssertion() bool { return true } // the CLI greets by name
func (c client) ClockSkew() time.Duration             { return 0 }

// ApplicationType decides for op whether a client has to authenticate when it
// asks for a device's token.
func (c client) ApplicationType() op.ApplicationType {
	switch {
	case c.SecretHash != "":
		return op.ApplicationTypeWeb
	case c.Config.AppType == appNative:
		return op.ApplicationTypeNative
	}
	return op.ApplicationTypeUserAgent
}

func (c client) AuthMethod() oidc.AuthMethod {
	if c.SecretHash != "" {
		return oidc.AuthMethodBasic
	}
	return oidc.AuthMethodNone
}

func (c client) GrantTypes() []oidc.GrantType {
	var out []oidc.GrantType
	for _, name := range c.Config.GrantTypes {
		if grant, ok := grantNames[name]; ok {
			out = append(out, grant)
		}
	}
	return out
}

func (c client) RestrictAdditionalIdTokenScopes() func([]string) []string     { return slices.Clone }
func (c client) RestrictAdditionalAccessTokenScopes() func([]string) []string { return slices.Clone }
