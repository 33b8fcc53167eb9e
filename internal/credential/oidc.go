package credential

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

const (
	// refreshEarly is how long before its end a token is replaced. Half as
	// much again is jitter: a fleet that came up together spreads out.
	refreshEarly = 5 * time.Minute
	// mintEvery bounds what a machine that is refused costs the issuer, which
	// may be a whole fleet because of somebody else's fault.
	mintEvery = 2 * time.Minute
	// mintTimeout is for the issuer's answer; an issuer that hangs must not
	// hold up a connection for which there is a token.
	mintTimeout      = 15 * time.Second
	mintTimeoutSpare = 4 * time.Second
)

// OIDCConfig is what an OIDC source needs.
type OIDCConfig struct {
	Issuer  string // URL, as in the iss claim
	Project string // id of the project that tokens are for
	File    string // a key file, readable by its owner only
	// HTTPClient reaches the issuer; it holds the CA that is trusted. nil
	// means http.DefaultClient.
	HTTPClient *http.Client
	Clock      func() time.Time // nil means time.Now
}

// OIDC gives access tokens that it mints with a machine's own key, by the JWT
// profile (RFC 7523, 2.1) as Zitadel does it. A token is replaced before it
// ends; while the issuer does not answer, one that still holds is given. The
// clock may be wrong: times are the issuer's, by the Date of its answers. It is
// safe for concurrent use.
type OIDC struct {
	cfg   OIDCConfig
	mint  minter
	turn  chan struct{} // held by who uses what is below
	token Secret

	minted  time.Time // when the request for it began
	refresh time.Time // when it is to be replaced
	expires time.Time
	refused bool
}

// NewOIDC makes a source. Nothing is read or fetched before it is asked.
func NewOIDC(cfg OIDCConfig) *OIDC {
	if cfg.HTTPClient == nil {
		cfg.HTTPClient = http.DefaultClient
	}
	client := *cfg.HTTPClient
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // nobody else gets an assertion
	cfg.HTTPClient = &client
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	return &OIDC{cfg: cfg, mint: minter{cfg: cfg}, turn: make(chan struct{}, 1)}
}

// Credential gives a token that holds, a new one if need be.
func (o *OIDC) Credential(ctx context.Context) (Credential, error) {
	select {
	case o.turn <- struct{}{}:
		defer func() { <-o.turn }()
	case <-ctx.Done():
		return Credential{}, context.Cause(ctx)
	}
	now := o.cfg.Clock()
	if o.token != "" && !o.refused && now.Before(o.refresh) {
		return o.current(), nil
	}
	holds := o.token != "" && now.Before(o.expires)
	timeout := mintTimeout
	if holds && !o.refused {
		timeout = mintTimeoutSpare
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	token, lifetime, err := o.mint.mint(ctx)
	switch {
	case err == nil:
		early := min(refreshEarly, lifetime/4)
		o.token, o.minted, o.refused = token, now, false
		o.expires = now.Add(lifetime)
		o.refresh = o.expires.Add(-early - rand.N(early/2+1))
	case !holds:
		return Credential{}, fmt.Errorf("get access token: %w", err)
	}
	return o.current(), nil
}

func (o *OIDC) current() Credential {
	return Credential{Token: o.token, Expires: o.expires, Refresh: o.refresh}
}

// Refused says that the server did not take the token: the next one is new,
// whatever the clock says about this one.
func (o *OIDC) Refused() {
	o.turn <- struct{}{}
	defer func() { <-o.turn }()
	if o.cfg.Clock().Sub(o.minted).Abs() >= mintEvery {
		o.refused = true
	}
}

// Now is the issuer's time, as well as it is known.
func (o *OIDC) Now() time.Time { return o.mint.now() }
