// Package verify checks JWTs against an OpenID Connect issuer: the signature by
// the issuer's published keys, and for whom and until when a token is. It asks
// nothing about a token but whether it is good; what its roles allow is decided
// by who asks.
package verify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// maxToken bounds what is parsed at all, in bytes. Tokens with roles are 1–2 KB.
const maxToken = 16 << 10

// DefaultRolesClaim is where Zitadel and the embedded issuer put roles.
const DefaultRolesClaim = "urn:zitadel:iam:org:project:roles"

// Why a token is refused; each error of Verify wraps one of these.
var (
	ErrMalformed   = errors.New("not a signed JWT that can be read")
	ErrAlgorithm   = errors.New("its signature algorithm is not allowed")
	ErrUnknownKey  = errors.New("the issuer does not publish the key it is signed with")
	ErrSignature   = errors.New("its signature is wrong")
	ErrIssuer      = errors.New("it is from another issuer")
	ErrAudience    = errors.New("it is for another audience")
	ErrExpired     = errors.New("it has expired")
	ErrNotYetValid = errors.New("it is not valid yet")
	// ErrUnavailable says nothing about the token: the issuer's keys were never
	// had and cannot be fetched.
	ErrUnavailable = errors.New("the issuer's keys cannot be fetched")
)

// algorithms are all asymmetric: with HS256 the public key would be the secret.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
	jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// Config says whose tokens for whom are good.
type Config struct {
	Issuer    string   // exactly as in the iss claim
	Audiences []string // a token has to be for one of these
	// RolesClaim is the claim of that name or, where there is none, the one at
	// that path of names with dots between; "" means DefaultRolesClaim. It may
	// be an object (its keys are roles), a list, or one string.
	RolesClaim string
	IDClaim    string           // what Claims.ID is; found as RolesClaim is; "" for none
	HTTPClient *http.Client     // nil: http.DefaultClient; each fetch has a deadline of its own
	Clock      func() time.Time // nil: time.Now
	Leeway     time.Duration    // how far clocks may differ
}

// Claims is what a good token says.
type Claims struct {
	Subject  string
	Username string // preferred_username
	Name     string
	Email    string
	ID       string // Config.IDClaim
	Roles    []string
	Expiry   time.Time
	Raw      map[string]any
}

// Has says whether role is one of the token's.
func (c Claims) Has(role string) bool { return slices.Contains(c.Roles, role) }

// Verifier checks tokens of one issuer. It is safe for concurrent use.
type Verifier struct {
	cfg  Config
	keys *keySet
}

// New makes a verifier. Nothing is fetched before it is needed, so that an
// issuer that is not up yet hinders nobody; fetches end with ctx.
func New(ctx context.Context, cfg Config) *Verifier {
	if cfg.RolesClaim == "" {
		cfg.RolesClaim = DefaultRolesClaim
	}
	if cfg.HTTPClient == nil {
		cfg.HTTPClient = http.DefaultClient
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	return &Verifier{cfg: cfg, keys: &keySet{lifetime: ctx, issuer: cfg.Issuer, client: cfg.HTTPClient, clock: cfg.Clock}}
}

// Warm fetches the issuer's keys unless they are there; the error says what is
// wrong with the issuer.
func (v *Verifier) Warm(ctx context.Context) error {
	if len(v.keys.current()) > 0 {
		return nil
	}
	return v.keys.refresh(ctx)
}

// Verify gives the claims of a token that is good. ctx bounds the wait for the
// issuer's keys, when they have to be fetched.
func (v *Verifier) Verify(ctx context.Context, raw string) (Claims, error) {
	if len(raw) > maxToken || strings.Count(raw, ".") != 2 {
		return Claims{}, ErrMalformed
	}
	token, err := jose.ParseSignedCompact(raw, algorithms)
	if unexpected := (*jose.ErrUnexpectedSignatureAlgorithm)(nil); errors.As(err, &unexpected) {
		return Claims{}, fmt.Errorf("%w: %q", ErrAlgorithm, clip(string(unexpected.Got)))
	}
	if err != nil || len(token.Signatures) != 1 {
		return Claims{}, ErrMalformed
	}
	header := token.Signatures[0].Protected
	keys, err := v.keys.find(ctx, header.KeyID)
	if err != nil {
		return Claims{}, err
	}
	payload, err := signedBy(token, keys, header.Algorithm)
	if err != nil {
		return Claims{}, err
	}
	return v.check(payload)
}

// VerifyNow is Verify with the keys that are at hand. For a token whose key is
// not, it lets them be fetched and does not wait: ErrUnknownKey or
// ErrUnavailable then say that Verify may know better.
func (v *Verifier) VerifyNow(raw string) (Claims, error) { return v.Verify(expired, raw) }

// expired is a context that waits for nothing.
var expired = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// signedBy gives the payload once one of the keys made the signature.
func signedBy(token *jose.JSONWebSignature, keys []jose.JSONWebKey, algorithm string) ([]byte, error) {
	for _, key := range keys {
		if key.Algorithm != "" && key.Algorithm != algorithm {
			continue // a key is for one algorithm, lest another is talked into it
		}
		if payload, err := token.Verify(key.Key); err == nil {
			return payload, nil
		}
	}
	return nil, ErrSignature
}

// clip bounds what a stranger gets into an error, and so into a log.
func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}
