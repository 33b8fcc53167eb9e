package session

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/zitadel/oidc/v3/pkg/client"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"golang.org/x/oauth2"

	"github.com/nationtech/fleetctl/internal/identity/verify"
)

const (
	issuerTimeout = 15 * time.Second
	formsKeyBytes = 32
)

// issuer is the client of the issuer.
type issuer struct {
	cfg Config

	mu   sync.Mutex
	meta *oidc.DiscoveryConfiguration
}

// discover asks the issuer for its endpoints, until it has told once.
func (i *issuer) discover(ctx context.Context) (*oidc.DiscoveryConfiguration, error) {
	i.mu.Lock()
	meta := i.meta
	i.mu.Unlock()
	if meta != nil {
		return meta, nil
	}
	ctx, cancel := context.WithTimeout(ctx, issuerTimeout)
	defer cancel()
	meta, err := client.Discover(ctx, i.cfg.Issuer, i.cfg.HTTPClient)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIssuer, err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.meta = meta
	return meta, nil
}

func (i *issuer) oauth(ctx context.Context, origin string) (*oauth2.Config, error) {
	meta, err := i.discover(ctx)
	if err != nil {
		return nil, err
	}
	style := oauth2.AuthStyleInHeader
	if i.cfg.ClientSecret == "" {
		style = oauth2.AuthStyleInParams
	}
	return &oauth2.Config{
		ClientID: i.cfg.ClientID, ClientSecret: string(i.cfg.ClientSecret), Scopes: i.cfg.Scopes, RedirectURL: origin + CallbackPath,
		Endpoint: oauth2.Endpoint{AuthURL: meta.AuthorizationEndpoint, TokenURL: meta.TokenEndpoint, AuthStyle: style},
	}, nil
}

// exchange makes a session of a code (RFC 6749, 4.1.3; RFC 7636, 4.5).
func (i *issuer) exchange(ctx context.Context, b begun, code string) (*Session, error) {
	ctx, cancel := context.WithTimeout(ctx, issuerTimeout)
	defer cancel()
	oauth, err := i.oauth(ctx, b.Origin)
	if err != nil {
		return nil, err
	}
	token, err := oauth.Exchange(context.WithValue(ctx, oauth2.HTTPClient, i.cfg.HTTPClient), code, oauth2.VerifierOption(b.Verifier))
	if err != nil {
		if refusal := (*oauth2.RetrieveError)(nil); errors.As(err, &refusal) {
			return nil, fmt.Errorf("%w: the issuer says %q", ErrSignIn, clip(refusal.ErrorCode+" "+refusal.ErrorDescription))
		}
		return nil, fmt.Errorf("%w: %w", ErrIssuer, err)
	}
	idToken, _ := token.Extra("id_token").(string)
	id, err := i.cfg.ID.Verify(ctx, idToken)
	if err != nil {
		return nil, fmt.Errorf("%w: its ID token: %w", ErrIssuer, err)
	}
	if nonce, _ := id.Raw["nonce"].(string); nonce != b.Nonce {
		return nil, fmt.Errorf("%w: its ID token is of another sign-in", ErrSignIn)
	}
	forms := make([]byte, formsKeyBytes)
	if _, err := rand.Read(forms); err != nil {
		return nil, fmt.Errorf("begin session: %w", err)
	}
	s, err := i.session(ctx, kept{Began: i.cfg.Now(), Forms: forms}, token)
	if err == nil && s.Subject != id.Subject {
		return nil, fmt.Errorf("%w: its tokens are of two people", ErrIssuer)
	}
	return s, err
}

// refresh gives the session as the issuer sees it now, under a new id.
func (i *issuer) refresh(ctx context.Context, k kept) (*Session, error) {
	oauth, err := i.oauth(ctx, i.cfg.Origins[0])
	if err != nil {
		return nil, err
	}
	source := oauth.TokenSource(context.WithValue(ctx, oauth2.HTTPClient, i.cfg.HTTPClient), &oauth2.Token{RefreshToken: k.Refresh})
	token, err := source.Token()
	if refusal := (*oauth2.RetrieveError)(nil); errors.As(err, &refusal) && refusal.Response.StatusCode < http.StatusInternalServerError {
		return nil, fmt.Errorf("%w: the issuer says %q", ErrNone, clip(refusal.ErrorCode+" "+refusal.ErrorDescription))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIssuer, err)
	}
	s, err := i.session(ctx, k, token)
	if err == nil && s.Subject != k.Subject {
		return nil, fmt.Errorf("%w: the fresh token is somebody else's", ErrNone)
	}
	return s, err
}

// session reads who it is from the access token, as the API does.
func (i *issuer) session(ctx context.Context, k kept, token *oauth2.Token) (*Session, error) {
	claims, err := i.cfg.Access.Verify(ctx, token.AccessToken)
	if err != nil {
		return nil, fmt.Errorf("%w: its access token: %w", ErrIssuer, err)
	}
	k.ID, k.Subject, k.Name, k.Roles, k.Expires = rand.Text(), claims.Subject, name(claims), claims.Roles, claims.Expiry
	if token.RefreshToken != "" {
		k.Refresh = token.RefreshToken
	}
	return &Session{Subject: k.Subject, Name: k.Name, Roles: k.Roles, Expires: k.Expires, Token: Token(token.AccessToken), kept: k}, nil
}

func name(c verify.Claims) string {
	if c.Username != "" {
		return c.Username
	}
	return c.Subject
}

// revoke tells the issuer that a refresh token is not to be used any more
// (RFC 7009).
func (i *issuer) revoke(ctx context.Context, refresh string) error {
	meta, err := i.discover(ctx)
	if err != nil || meta.RevocationEndpoint == "" || refresh == "" {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, issuerTimeout)
	defer cancel()
	form := url.Values{"token": {refresh}, "token_type_hint": {"refresh_token"}}
	if i.cfg.ClientSecret == "" {
		form.Set("client_id", i.cfg.ClientID)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, meta.RevocationEndpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if i.cfg.ClientSecret != "" {
		req.SetBasicAuth(url.QueryEscape(i.cfg.ClientID), url.QueryEscape(string(i.cfg.ClientSecret)))
	}
	resp, err := i.cfg.HTTPClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the issuer answers %s", resp.Status)
	}
	return nil
}

// endSession is where the issuer ends a person's session; "" when it said none.
func (i *issuer) endSession() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.meta == nil {
		return ""
	}
	return i.meta.EndSessionEndpoint
}
