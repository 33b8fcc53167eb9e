package callout

import (
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/nationtech/fleetctl/internal/broker/accounts"
)

const (
	// visitorAudience sets a visitor's token apart from everything else that the
	// callout's key signs.
	visitorAudience = "fleet-visitor"
	// MaxVisit is the longest that a visitor's token may be good.
	MaxVisit = time.Hour
)

var errVisit = errors.New("not a visitor's token of ours")

// Visitor makes a token for somebody who looks at the buckets by hand, when
// nothing else works: it takes the callout's key, and no issuer. It lets in to
// read, for a while.
func Visitor(issuer nkeys.KeyPair, lifetime time.Duration, now time.Time) (string, error) {
	if lifetime <= 0 || lifetime > MaxVisit {
		return "", fmt.Errorf("a visit lasts up to %s, not %s", MaxVisit, lifetime)
	}
	subject, err := nkeys.CreateUser() // a JWT of NATS has to be about some key
	if err != nil {
		return "", fmt.Errorf("make visitor: %w", err)
	}
	public, err := subject.PublicKey()
	if err != nil {
		return "", fmt.Errorf("make visitor: %w", err)
	}
	claims := jwt.NewUserClaims(public)
	claims.Name, claims.Audience, claims.Expires = "visitor", visitorAudience, now.Add(lifetime).Unix()
	token, err := claims.Encode(issuer)
	if err != nil {
		return "", fmt.Errorf("sign visitor's token: %w", err)
	}
	return token, nil
}

// visit is what a visitor's token says. ours is false for any other token,
// which then is the issuer's affair.
func (c *Callout) visit(token string) (expires time.Time, ours bool) {
	claims, err := jwt.DecodeUserClaims(token) // checks the signature
	if err != nil || claims.Audience != visitorAudience {
		return time.Time{}, false
	}
	public, err := c.cfg.Issuer.PublicKey()
	if err != nil || claims.Issuer != public || claims.Expires == 0 {
		return time.Time{}, false
	}
	return time.Unix(claims.Expires, 0), true
}

// byVisit lets a visitor read.
func byVisit(expires, now time.Time) (decision, error) {
	viewer, ok := accounts.ByToken(accounts.RoleViewer)
	if !ok || !now.Before(expires) || expires.Sub(now) > MaxVisit {
		return decision{}, errVisit
	}
	return decision{Name: "visitor", Role: "visitor", Account: viewer.Account, Permissions: viewer.Permissions(), Expires: expires}, nil
}
