package issuer

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/nationtech/fleetctl/internal/issuer/store"
)

// storage answers op's questions from the store.
type storage struct {
	store *store.Store
	keys  *keyring
	facts Facts
	now   func() time.Time
	// machineToken is how long a machine's access token lives.
	machineToken time.Duration
	log          *slog.Logger
}

// refreshRequest is a refresh token that is being used.
type refreshRequest struct{ store.RefreshToken }

func (r *refreshRequest) GetAMR() []string          { return r.AMR }
func (r *refreshRequest) GetAudience() []string     { return r.Audience }
func (r *refreshRequest) GetAuthTime() time.Time    { return r.AuthTime }
func (r *refreshRequest) GetClientID() string       { return r.Client }
func (r *refreshRequest) GetScopes() []string       { return r.Scopes }
func (r *refreshRequest) GetSubject() string        { return r.User }
func (r *refreshRequest) SetCurrentScopes([]string) {} // a family keeps its scopes

// An access token's id is "<family>.<random>", so that revoking a family takes
// its access tokens with it without any of them being stored.
func tokenID(family string) string { return family + "." + store.NewID() }

func familyOf(tokenID string) string {
	family, _, _ := strings.Cut(tokenID, ".")
	return family
}

// CreateAccessToken is for tokens without a refresh token. Nothing is stored:
// thousands of machines ask for one every hour.
func (s *storage) CreateAccessToken(ctx context.Context, request op.TokenRequest) (string, time.Time, error) {
	if err := s.mayHave(ctx, request.GetSubject()); err != nil {
		return "", time.Time{}, err
	}
	switch r := request.(type) {
	case *oidc.JWTTokenRequest:
		// What the assertion was for is this issuer; what the token is for, the scopes say.
		r.Audience = s.audience("", r.Scopes)
		return tokenID(store.NewID()), s.now().Add(s.machineToken), nil
	case *authRequest:
		return tokenID(r.id), s.now().Add(personToken), nil
	}
	return tokenID(store.NewID()), s.now().Add(personToken), nil
}

// CreateAccessAndRefreshTokens starts a family, or goes on with one.
func (s *storage) CreateAccessAndRefreshTokens(ctx context.Context, request op.TokenRequest, current string) (string, string, time.Time, error) {
	if err := s.mayHave(ctx, request.GetSubject()); err != nil {
		return "", "", time.Time{}, err
	}
	next := store.RefreshToken{
		User: request.GetSubject(), Scopes: request.GetScopes(), Audience: request.GetAudience(),
		Expires: s.now().Add(refreshToken),
	}
	switch r := request.(type) {
	case *refreshRequest:
		next.Family, next.Client, next.AMR, next.AuthTime = r.Family, r.Client, r.AMR, r.AuthTime
	case *authRequest:
		next.Family, next.Client, next.AMR, next.AuthTime = r.id, r.Client, r.GetAMR(), r.authTime
	case *op.DeviceAuthorizationState:
		next.Family, next.Client, next.AMR, next.AuthTime = store.NewID(), r.ClientID, r.AMR, r.AuthTime
	default:
		return "", "", time.Time{}, oidc.ErrUnsupportedGrantType()
	}
	token := store.Secret()
	switch err := s.store.AddRefreshToken(ctx, token, current, next); {
	case errors.Is(err, store.ErrReused):
		s.log.Warn("refresh token used twice, its family is revoked", "op", "refresh", "user", next.User)
		return "", "", time.Time{}, oidc.ErrInvalidGrant().WithDescription("this refresh token was used before")
	case err != nil:
		return "", "", time.Time{}, err
	}
	return tokenID(next.Family), token, s.now().Add(personToken), nil
}

// mayHave refuses tokens to users who are gone or switched off.
func (s *storage) mayHave(ctx context.Context, user string) error {
	u, err := s.store.User(ctx, user)
	if errors.Is(err, store.ErrNotFound) || err == nil && !u.Active {
		return oidc.ErrInvalidGrant().WithDescription("this user is not active")
	}
	return err
}

func (s *storage) TokenRequestByRefreshToken(ctx context.Context, token string) (op.RefreshTokenRequest, error) {
	r, err := s.store.RefreshToken(ctx, token, s.now().Add(refreshToken))
	if errors.Is(err, store.ErrReused) {
		s.log.Warn("refresh token used twice, its family is revoked", "op", "refresh", "user", r.User)
	}
	if err != nil {
		return nil, err
	}
	return &refreshRequest{r}, nil
}

// TerminateSession is signing out at this issuer.
func (s *storage) TerminateSession(ctx context.Context, user, clientID string) error {
	return s.store.RevokeSessions(ctx, user, clientID)
}

// familyPrefix tells RevokeToken that it has a family.
const familyPrefix = "family:"

func (s *storage) GetRefreshTokenInfo(ctx context.Context, clientID, token string) (user, id string, err error) {
	r, err := s.store.LookupRefreshToken(ctx, token)
	if errors.Is(err, store.ErrNotFound) || err == nil && r.Client != clientID {
		return "", "", op.ErrInvalidRefreshToken
	}
	return r.User, familyPrefix + r.Family, err
}

// RevokeToken revokes a family, by its refresh token, or one access token.
func (s *storage) RevokeToken(ctx context.Context, id, user, _ string) *oidc.Error {
	if user == "" { // not a token of ours: nothing to revoke (RFC 7009, 2.2)
		return nil
	}
	family, whole := strings.CutPrefix(id, familyPrefix)
	until := s.now().Add(machineToken)
	if whole {
		id, until = family, s.now().Add(refreshToken)
	}
	if err := s.store.Revoke(ctx, id, until); err != nil {
		return oidc.ErrServerError().WithParent(err)
	}
	return nil
}

// alive says whether a token that is whole and not expired is still good here.
func (s *storage) alive(ctx context.Context, tokenID, user string) error {
	gone, err := s.store.Revoked(ctx, tokenID, familyOf(tokenID))
	if err != nil {
		return err
	}
	if gone {
		return errors.New("the token has been revoked")
	}
	return s.mayHave(ctx, user)
}

// GetKeyByIDAndClientID gives the key that a machine signs with.
func (s *storage) GetKeyByIDAndClientID(ctx context.Context, keyID, userID string) (*jose.JSONWebKey, error) {
	row, err := s.store.SigningMachine(ctx, userID, keyID)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKIXPublicKey(row.Public)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, errors.New("the key is not RSA")
	}
	// With the algorithm named, no other can be talked into the key.
	return &jose.JSONWebKey{KeyID: keyID, Algorithm: string(jose.RS256), Use: "sig", Key: key}, nil
}

// ValidateJWTProfileScopes drops scopes that mean nothing here.
func (s *storage) ValidateJWTProfileScopes(_ context.Context, _ string, scopes []string) ([]string, error) {
	return slices.DeleteFunc(slices.Clone(scopes), func(scope string) bool {
		return scope != oidc.ScopeOpenID && scope != oidc.ScopeProfile && !strings.HasPrefix(scope, scopePrefix)
	}), nil
}

// JWTProfileTokenType: without it machines would get tokens that only we can read.
func (s *storage) JWTProfileTokenType(context.Context, op.TokenRequest) (op.AccessTokenType, error) {
	return op.AccessTokenTypeJWT, nil
}

// Health is for op's probes.
func (s *storage) Health(ctx context.Context) error { return s.store.Ping(ctx) }
