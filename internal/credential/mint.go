package credential

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/keyfile"
)

const (
	grantJWTBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer" // RFC 7523, 2.1
	// Scopes as Zitadel's: roles into the token, and the project as its audience.
	scopeRoles    = "urn:zitadel:iam:org:projects:roles"
	scopeAudience = "urn:zitadel:iam:org:project:id:%s:aud"

	assertionLife = 5 * time.Minute
	// assertionPast makes up for a Date of whole seconds and for the way:
	// issuers take nothing from the future.
	assertionPast   = 5 * time.Second
	clockTolerance  = 5 * time.Second // a deviation below is the way's
	defaultLifetime = 5 * time.Minute // of a token that does not say (RFC 6749, 5.1)
	maxAnswer       = 256 << 10       // bytes
	maxRefusal      = 200             // characters of the issuer's words in an error
)

// minter talks to the issuer. Its caller lets one at a time in.
type minter struct {
	cfg    OIDCConfig
	tokens string // token endpoint, once it is known
	clock  atomic.Pointer[issuerClock]
}

func (m *minter) now() time.Time { return m.clock.Load().at(m.cfg.Clock()) }

// issuerClock is what the issuer's clock said at a moment of ours. It goes on by
// the time that passes, whatever our clock is set to meanwhile.
type issuerClock struct{ theirs, ours time.Time }

// at is the issuer's time at a moment of ours; that itself before anything is known.
func (c *issuerClock) at(ours time.Time) time.Time {
	if c == nil {
		return ours
	}
	return c.theirs.Add(ours.Sub(c.ours))
}

// refusal is an answer of the issuer that is no token (RFC 6749, 5.2).
type refusal struct {
	status      int
	Code        string `json:"error"`
	Description string `json:"error_description"`
}

func (r *refusal) Error() string {
	text := fmt.Sprintf("the issuer refuses (HTTP %d)", r.status)
	for _, part := range []string{r.Code, r.Description} {
		if part != "" {
			text += ": " + clip(part)
		}
	}
	return text
}

// mint gets a token. An issuer that refuses while its clock turns out to be
// another than we thought is asked once more.
func (m *minter) mint(ctx context.Context) (Secret, time.Duration, error) {
	// Read anew for each token, so that a replaced key needs no restart.
	key, err := keyfile.Read(m.cfg.File)
	if err != nil {
		return "", 0, hint.Wrap(fmt.Errorf("identity: %w", err), "fleetctl enroll writes this file; --rotate replaces it")
	}
	if m.tokens == "" {
		if err := m.discover(ctx); err != nil {
			return "", 0, err
		}
	}
	believed := m.clock.Load()
	token, lifetime, err := m.exchange(ctx, key)
	var refused *refusal
	if errors.As(err, &refused) && m.now().Sub(believed.at(m.cfg.Clock())).Abs() > clockTolerance {
		token, lifetime, err = m.exchange(ctx, key)
	}
	if errors.As(err, &refused) {
		if refused.status == http.StatusNotFound || refused.status == http.StatusMethodNotAllowed {
			m.tokens = "" // it moved
		}
		err = hint.Wrap(err, "if the issuer no longer knows this key: fleetctl enroll --rotate")
	}
	return token, lifetime, err
}

// discover finds the token endpoint (OpenID Connect Discovery 1.0, 4).
func (m *minter) discover(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet,
		strings.TrimSuffix(m.cfg.Issuer, "/")+"/.well-known/openid-configuration", nil)
	if err != nil {
		return fmt.Errorf("discover issuer: %w", err)
	}
	var meta struct {
		Issuer        string `json:"issuer"`
		TokenEndpoint string `json:"token_endpoint"`
	}
	if err := m.do(req, &meta); err != nil {
		return fmt.Errorf("discover issuer %s: %w", m.cfg.Issuer, err)
	}
	switch {
	case meta.Issuer != m.cfg.Issuer:
		return fmt.Errorf("discover issuer %s: it calls itself %q", m.cfg.Issuer, clip(meta.Issuer))
	case !secure(meta.TokenEndpoint):
		return fmt.Errorf("discover issuer %s: its token endpoint is not https", m.cfg.Issuer)
	}
	m.tokens = meta.TokenEndpoint
	return nil
}

func (m *minter) exchange(ctx context.Context, key keyfile.Key) (Secret, time.Duration, error) {
	assertion, err := m.assertion(key)
	if err != nil {
		return "", 0, err
	}
	form := url.Values{
		"grant_type": {grantJWTBearer},
		"assertion":  {assertion},
		"scope":      {"openid " + scopeRoles + " " + fmt.Sprintf(scopeAudience, m.cfg.Project)},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.tokens, strings.NewReader(form.Encode()))
	if err != nil {
		return "", 0, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var answer struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int64  `json:"expires_in"` // seconds
	}
	if err := m.do(req, &answer); err != nil {
		return "", 0, err
	}
	if answer.AccessToken == "" {
		return "", 0, errors.New("the issuer's answer has no access token")
	}
	lifetime := defaultLifetime
	if answer.ExpiresIn > 0 {
		lifetime = time.Duration(min(answer.ExpiresIn, 365*24*3600)) * time.Second
	}
	return Secret(answer.AccessToken), lifetime, nil
}

// assertion is a JWT (RFC 7519) signed with RS256, the algorithm that every
// issuer of this profile takes. Only writing one is needed here, never reading:
// that is 20 lines, where a JOSE library would be one more dependency on every device.
func (m *minter) assertion(key keyfile.Key) (string, error) {
	now := m.now().Add(-assertionPast)
	header, err := json.Marshal(map[string]string{"alg": "RS256", "typ": "JWT", "kid": key.KeyID})
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(map[string]any{
		"iss": key.UserID, "sub": key.UserID, "aud": m.cfg.Issuer,
		"iat": now.Unix(), "exp": now.Add(assertionLife).Unix(),
	})
	if err != nil {
		return "", err
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode(header) + "." + encode(claims)
	sum := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key.Private, crypto.SHA256, sum[:])
	if err != nil {
		return "", fmt.Errorf("sign assertion: %w", err)
	}
	return signed + "." + encode(signature), nil
}

// do sends a request, notes the issuer's clock, and decodes the answer.
func (m *minter) do(req *http.Request, into any) error {
	if !secure(req.URL.String()) {
		return errors.New("its URL is not https")
	}
	req.Header.Set("Accept", "application/json")
	began := m.cfg.Clock()
	resp, err := m.cfg.HTTPClient.Do(req)
	if err != nil {
		return hint.WithCode(err, hint.CodeUnreachable)
	}
	defer resp.Body.Close()
	m.noteClock(resp.Header.Get("Date"), began)
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the issuer's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		r := &refusal{status: resp.StatusCode}
		_ = json.Unmarshal(body, r) // one that is not JSON has its status alone
		return r
	}
	if err := json.Unmarshal(body, into); err != nil {
		return errors.New("the answer is not what an issuer gives") // err may quote a token
	}
	return nil
}

// HTTPClient is for an issuer whose certificate roots vouch for; nil means the
// system's.
func HTTPClient(roots *x509.CertPool) *http.Client {
	return &http.Client{Transport: &http.Transport{
		Proxy:           http.ProxyFromEnvironment,
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		// A token an hour: a connection that is kept would only go stale.
		DisableKeepAlives: true,
	}}
}

// noteClock learns what the issuer's clock says. A difference within the way's
// time is taken for none.
func (m *minter) noteClock(date string, began time.Time) {
	theirs, err := http.ParseTime(date)
	if err != nil {
		return
	}
	ours := began.Add(m.cfg.Clock().Sub(began) / 2)
	if theirs.Sub(ours.Round(0)).Abs() <= clockTolerance { // of wall clocks, not of monotonic ones
		theirs = ours.Round(0)
	}
	m.clock.Store(&issuerClock{theirs, ours})
}

// secure: a token sent in the clear is everybody's.
func secure(rawURL string) bool {
	u, err := url.Parse(rawURL)
	if err != nil || u.Host == "" {
		return false
	}
	if u.Scheme == "https" {
		return true
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return u.Scheme == "http" && (u.Hostname() == "localhost" || err == nil && addr.IsLoopback())
}

func clip(s string) string {
	if len(s) > maxRefusal {
		return s[:maxRefusal] + "…"
	}
	return s
}
