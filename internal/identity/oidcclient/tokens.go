package oidcclient

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/identity/verify"
)

// leeway is how far the clocks of issuer and laptop may differ.
const leeway = 2 * time.Minute

// Secret is a token; only its JSON shows it.
type Secret string

func (Secret) String() string       { return "[redacted]" }
func (Secret) GoString() string     { return "[redacted]" }
func (Secret) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// User is who signed in, by the ID token.
type User struct {
	Subject  string `json:"subject"`
	Username string `json:"username,omitempty"`
	Name     string `json:"name,omitempty"`
	Email    string `json:"email,omitempty"`
}

// Greeting is what to call a person.
func (u User) Greeting() string {
	for _, name := range []string{u.Name, u.Username, u.Email} {
		if name != "" {
			return name
		}
	}
	return u.Subject
}

// Tokens is what an issuer gave.
type Tokens struct {
	// Bearer is what servers are shown: the access token or, where that is no
	// JWT and so nothing that a server could check, the ID token.
	Bearer  Secret
	Refresh Secret    // "" when the session cannot be renewed
	Expiry  time.Time // of Bearer, by this machine's clock
	// User is empty after a refresh that gave no ID token.
	User  User
	Roles []string // as Bearer says; servers check them, and who signed
}

// Refresh gives new tokens for a refresh token, which is used up by that:
// whoever calls this sees to it that nobody else does with the same one. The
// error is ErrEnded when the session is over.
func (p *Provider) Refresh(ctx context.Context, refresh Secret) (Tokens, error) {
	what := "renew the session at " + p.cfg.Issuer
	token, err := p.oauth.TokenSource(p.context(ctx), &oauth2.Token{RefreshToken: string(refresh)}).Token()
	if err != nil {
		var refused *oauth2.RetrieveError
		if errors.As(err, &refused) && refused.ErrorCode == "invalid_grant" {
			return Tokens{}, fmt.Errorf("%s: %w", what, ErrEnded)
		}
		return Tokens{}, p.explain(ctx, what, err)
	}
	return p.tokens(ctx, token, "")
}

// ErrEnded is a session that the issuer does not renew any more.
var ErrEnded = hint.WithCode(hint.New("the session has ended", "sign in again with: fleetctl login"), hint.CodeAuth)

// tokens checks what the issuer gave. nonce is "" after a refresh, when an ID
// token may be missing (OpenID Connect Core, 12.2).
func (p *Provider) tokens(ctx context.Context, token *oauth2.Token, nonce string) (Tokens, error) {
	out := Tokens{Bearer: Secret(token.AccessToken), Refresh: Secret(token.RefreshToken), Expiry: token.Expiry}
	raw, _ := token.Extra("id_token").(string)
	switch {
	case raw == "" && nonce != "":
		return Tokens{}, hint.WithCode(hint.New("sign in at "+p.cfg.Issuer+": it gave no ID token",
			"allow the scope openid for client "+p.cfg.ClientID+" at the issuer"), hint.CodeAuth)
	case raw != "":
		id, err := p.verify(ctx, raw, nonce)
		if err != nil {
			return Tokens{}, err
		}
		out.User = id.User
		if !isJWT(token.AccessToken) {
			out.Bearer, out.Expiry = Secret(raw), p.cfg.Now().Add(id.lifetime)
		}
	}
	out.Roles = rolesOf(string(out.Bearer))
	if out.Expiry.IsZero() { // the issuer need not say; so it is asked soon
		out.Expiry = p.cfg.Now().Add(5 * time.Minute)
	}
	return out, nil
}

type identity struct {
	User
	lifetime time.Duration
}

// verify checks an ID token (OpenID Connect Core, 3.1.3.7).
func (p *Provider) verify(ctx context.Context, raw, nonce string) (identity, error) {
	verifier := p.oidc.VerifierContext(p.context(ctx), &oidc.Config{ClientID: p.cfg.ClientID,
		Now: func() time.Time { return p.cfg.Now().Add(-leeway) }})
	token, err := verifier.Verify(p.context(ctx), raw)
	if err == nil && token.IssuedAt.After(p.cfg.Now().Add(leeway)) {
		err = errFromFuture
	}
	if err != nil {
		return identity{}, p.explainToken(ctx, err)
	}
	if token.Nonce != "" && nonce != "" && subtle.ConstantTimeCompare([]byte(token.Nonce), []byte(nonce)) != 1 {
		return identity{}, p.explainToken(ctx, errors.New("it was made for another sign-in (nonce)"))
	}
	var claims struct {
		Username string `json:"preferred_username"`
		Name     string `json:"name"`
		Email    string `json:"email"`
	}
	if err := token.Claims(&claims); err != nil {
		return identity{}, p.explainToken(ctx, err)
	}
	return identity{User{token.Subject, claims.Username, claims.Name, claims.Email}, token.Expiry.Sub(token.IssuedAt)}, nil
}

func isJWT(token string) bool { return claimsOf(token) != nil }

// claimsOf reads a JWT's claims unchecked: what they decide here is only what is
// shown.
func claimsOf(token string) map[string]any {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil
	}
	var claims map[string]any
	if json.Unmarshal(payload, &claims) != nil {
		return nil
	}
	return claims
}

func rolesOf(token string) []string { return verify.RolesAt(claimsOf(token), verify.DefaultRolesClaim) }
