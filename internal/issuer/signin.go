package issuer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/nationtech/fleetctl/internal/issuer/store"
)

// authRequest is a sign-in by code + PKCE; op reads it through its methods.
type authRequest struct {
	id       string
	user     string
	authTime time.Time
	browser  string
	audience []string
	asked
}

// asked is what is kept of the client's request.
type asked struct {
	Client      string   `json:"client"`
	RedirectURI string   `json:"redirectURI"`
	State       string   `json:"state"`
	Nonce       string   `json:"nonce"`
	Scopes      []string `json:"scopes"`
	Challenge   string   `json:"challenge"`
	FormPost    bool     `json:"formPost"`
}

func (a *authRequest) GetID() string                      { return a.id }
func (a *authRequest) GetACR() string                     { return "" }
func (a *authRequest) GetAMR() []string                   { return []string{"pwd"} }
func (a *authRequest) GetAudience() []string              { return a.audience }
func (a *authRequest) GetAuthTime() time.Time             { return a.authTime }
func (a *authRequest) GetClientID() string                { return a.Client }
func (a *authRequest) GetNonce() string                   { return a.Nonce }
func (a *authRequest) GetRedirectURI() string             { return a.RedirectURI }
func (a *authRequest) GetResponseType() oidc.ResponseType { return oidc.ResponseTypeCode }
func (a *authRequest) GetScopes() []string                { return a.Scopes }
func (a *authRequest) GetState() string                   { return a.State }
func (a *authRequest) GetSubject() string                 { return a.user }
func (a *authRequest) Done() bool                         { return a.user != "" }

func (a *authRequest) GetResponseMode() oidc.ResponseMode {
	if a.FormPost {
		return oidc.ResponseModeFormPost
	}
	return ""
}

func (a *authRequest) GetCodeChallenge() *oidc.CodeChallenge {
	return &oidc.CodeChallenge{Challenge: a.Challenge, Method: oidc.CodeChallengeMethodS256}
}

// CreateAuthRequest begins a sign-in. PKCE is demanded of every client, not
// only of those that op demands it of (OAuth 2.1, 7.5.1).
func (s *storage) CreateAuthRequest(ctx context.Context, r *oidc.AuthRequest, _ string) (op.AuthRequest, error) {
	if r.CodeChallenge == "" || r.CodeChallengeMethod != oidc.CodeChallengeMethodS256 {
		return nil, oidc.ErrInvalidRequest().WithDescription("PKCE with code_challenge_method=S256 is required")
	}
	for _, prompt := range r.Prompt {
		if prompt == oidc.PromptNone { // there are no sessions that could answer
			return nil, oidc.ErrLoginRequired()
		}
	}
	a := &authRequest{id: store.NewID(), asked: asked{
		Client: r.ClientID, RedirectURI: r.RedirectURI, State: r.State, Nonce: r.Nonce, Scopes: r.Scopes,
		Challenge: r.CodeChallenge, FormPost: r.ResponseMode == oidc.ResponseModeFormPost,
	}}
	data, err := json.Marshal(a.asked)
	if err != nil {
		return nil, fmt.Errorf("encode sign-in: %w", err)
	}
	if err := s.store.AddAuthRequest(ctx, a.id, data, s.now().Add(signInLifetime)); err != nil {
		return nil, fmt.Errorf("store sign-in: %w", err)
	}
	return a, nil
}

func (s *storage) authRequest(row store.AuthRequest) (*authRequest, error) {
	a := &authRequest{id: row.ID, user: row.User, authTime: row.AuthTime, browser: row.Browser}
	if err := json.Unmarshal(row.Request, &a.asked); err != nil {
		return nil, fmt.Errorf("decode sign-in: %w", err)
	}
	a.audience = s.audience(a.Client, a.Scopes)
	return a, nil
}

func (s *storage) AuthRequestByID(ctx context.Context, id string) (op.AuthRequest, error) {
	return s.findAuthRequest(ctx, id)
}

func (s *storage) findAuthRequest(ctx context.Context, id string) (*authRequest, error) {
	row, err := s.store.AuthRequest(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, oidc.ErrInvalidRequest().WithDescription("this sign-in is not known, or took too long: begin again")
	}
	if err != nil {
		return nil, err
	}
	return s.authRequest(row)
}

// AuthRequestByCode uses the code up, whatever comes of it: a wrong verifier is
// not to be tried twice.
func (s *storage) AuthRequestByCode(ctx context.Context, code string) (op.AuthRequest, error) {
	row, err := s.store.UseCode(ctx, code, s.now().Add(refreshToken))
	if errors.Is(err, store.ErrReused) {
		s.log.Warn("code used twice, its tokens are revoked", "op", "sign in", "user", row.User)
	}
	if err != nil {
		return nil, err
	}
	return s.authRequest(row)
}

func (s *storage) SaveAuthCode(ctx context.Context, id, code string) error {
	return s.store.SetCode(ctx, id, code, s.now().Add(codeLifetime))
}

// DeleteAuthRequest keeps the request, so that a second use of its code is
// noticed; the sweep removes it.
func (s *storage) DeleteAuthRequest(context.Context, string) error { return nil }

// StoreDeviceAuthorization begins a sign-in by device code.
func (s *storage) StoreDeviceAuthorization(ctx context.Context, clientID, code, userCode string, expires time.Time, scopes []string) error {
	err := s.store.AddDeviceCode(ctx, code, store.DeviceCode{UserCode: userCode, Client: clientID, Expires: expires}, oidc.SpaceDelimitedArray(scopes).String(), maxPending)
	if errors.Is(err, store.ErrExists) {
		return op.ErrDuplicateUserCode
	}
	return err
}

// GetDeviceAuthorizatonState answers a poll. What it gives as done it gives once.
func (s *storage) GetDeviceAuthorizatonState(ctx context.Context, clientID, code string) (*op.DeviceAuthorizationState, error) {
	// Half a second of the interval is left to the network.
	d, err := s.store.PollDevice(ctx, clientID, code, devicePoll-500*time.Millisecond)
	if errors.Is(err, store.ErrSlowDown) {
		// The one error that op turns into slow_down.
		return nil, fmt.Errorf("%w: %w", err, context.DeadlineExceeded)
	}
	if err != nil {
		return nil, err
	}
	state := &op.DeviceAuthorizationState{
		ClientID: d.Client, Audience: s.audience(d.Client, d.Scopes), Scopes: d.Scopes, Expires: d.Expires,
		Denied: d.State == store.DeviceDenied, Subject: d.User, AMR: []string{"pwd"}, AuthTime: d.AuthTime,
	}
	if d.State == store.DeviceUsed || !s.now().Before(d.Expires) {
		state.Expires = time.Time{} // op: expired_token
		return state, nil
	}
	state.Done = d.State == store.DeviceApproved
	return state, nil
}
