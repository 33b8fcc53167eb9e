package serverapi

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/nationtech/fleetctl/internal/identity/verify"
)

func bearer(r *http.Request) (string, error) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return "", errNoToken
	}
	return strings.TrimSpace(token), nil
}

// Verifier checks an issuer's tokens.
type Verifier interface {
	Verify(ctx context.Context, token string) (verify.Claims, error)
}

// IssuedTokens authenticates people by an issuer's access tokens.
type IssuedTokens struct{ Verifier Verifier }

// Authenticate accepts every good token: what its roles allow is asked later,
// of each request.
func (i IssuedTokens) Authenticate(r *http.Request) (Principal, error) {
	token, err := bearer(r)
	if err != nil {
		return Principal{}, err
	}
	claims, err := i.Verifier.Verify(r.Context(), token)
	if err != nil {
		return Principal{}, err
	}
	name := claims.Username
	if name == "" {
		name = claims.Subject
	}
	return Principal{Name: name, Subject: claims.Subject, Roles: claims.Roles}, nil
}

// Either authenticates by the first of several that accepts.
type Either []Authenticator

// Authenticate gives the errors of all when none accepts.
func (e Either) Authenticate(r *http.Request) (Principal, error) {
	var errs []error
	for _, a := range e {
		who, err := a.Authenticate(r)
		if err == nil {
			return who, nil
		}
		errs = append(errs, err)
	}
	return Principal{}, errors.Join(errs...)
}

// tokenHint says what to do about a token, by why it was refused.
func tokenHint(err error) string {
	switch {
	case errors.Is(err, errNoToken):
		return "sign in with: fleetctl login"
	case errors.Is(err, verify.ErrExpired):
		return "sign in again with: fleetctl login; if that does not help, compare the clocks of issuer and server (timedatectl)"
	case errors.Is(err, verify.ErrNotYetValid):
		return "the clocks of issuer and server differ: compare them (timedatectl)"
	case errors.Is(err, verify.ErrUnavailable):
		return "the server cannot reach the issuer; see its log, then try again"
	case errors.Is(err, verify.ErrAudience):
		return "the token is not for this fleet's project: sign in again with: fleetctl login"
	}
	return "sign in with: fleetctl login; on the server's machine the token in its admin-token file works too"
}
