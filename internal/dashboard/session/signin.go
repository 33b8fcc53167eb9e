package session

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

// CallbackPath is where the issuer sends people back to.
const CallbackPath = "/auth/callback"

// signInLifetime is how long a sign-in may take.
const signInLifetime = 15 * time.Minute

// Secret is a client's secret.
type Secret string

func (Secret) String() string       { return "[redacted]" }
func (Secret) GoString() string     { return "[redacted]" }
func (Secret) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// Config of a manager.
type Config struct {
	// Keys seal cookies, KeyBytes each; the first is used, the others are
	// those before it.
	Keys [][]byte
	// Origins are the https://HOST[:PORT] that people may use; the first is
	// the one that they are sent to when they use another. The issuer knows
	// each with CallbackPath behind it.
	Origins      []string
	Issuer       string
	ClientID     string
	ClientSecret Secret // "" for a public client
	Scopes       []string
	// SignOutOfIssuer ends the person's session at the issuer as well. The
	// embedded issuer has none.
	SignOutOfIssuer bool
	HTTPClient      *http.Client // towards the issuer
	Access          Verifier     // of access tokens
	ID              Verifier     // of ID tokens: for ClientID
	Log             *slog.Logger
	Now             func() time.Time // nil: time.Now
}

// NewManager makes a manager. The issuer is not asked before somebody comes.
func NewManager(cfg Config) (*Manager, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if len(cfg.Origins) == 0 {
		return nil, errors.New("no origin for sign-in")
	}
	s, err := newSealer(cfg.Keys)
	if err != nil {
		return nil, err
	}
	return &Manager{cfg: cfg, sealer: s, issuer: &issuer{cfg: cfg},
		tokens: map[string]held{}, ended: map[string]time.Time{}, renewed: map[string]held{}}, nil
}

// begun is a sign-in under way, in a cookie of its own.
type begun struct {
	State    string    `json:"state"`
	Nonce    string    `json:"nonce"`
	Verifier string    `json:"verifier"`
	Origin   string    `json:"origin"`
	To       string    `json:"to"`
	Until    time.Time `json:"until"`
}

// SignIn sends the browser to the issuer. The error is for people.
func (m *Manager) SignIn(w http.ResponseWriter, r *http.Request) error {
	origin, ok := m.origin(r)
	if !ok {
		http.Redirect(w, r, m.cfg.Origins[0]+r.URL.RequestURI(), http.StatusSeeOther)
		return nil
	}
	b := begun{State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier(), Origin: origin,
		To: LocalPath(r.FormValue("to")), Until: m.cfg.Now().Add(signInLifetime)}
	oauth, err := m.issuer.oauth(r.Context(), origin)
	if err != nil {
		return err
	}
	sealed, err := m.sealer.seal(forSignIn, b)
	if err != nil {
		return fmt.Errorf("begin sign-in: %w", err)
	}
	setCookie(w, signInCookie, sealed, int(signInLifetime.Seconds()))
	http.Redirect(w, r, oauth.AuthCodeURL(b.State, oauth2.S256ChallengeOption(b.Verifier), oauth2.SetAuthURLParam("nonce", b.Nonce)), http.StatusSeeOther)
	return nil
}

// ErrSignIn says that a sign-in did not work out; its text is for people.
var ErrSignIn = errors.New("this sign-in is over or was begun in another browser")

// Callback ends a sign-in: it gives the browser its session and sends it to
// where it wanted to go.
func (m *Manager) Callback(w http.ResponseWriter, r *http.Request) error {
	var b begun
	cookie, err := r.Cookie(signInCookie)
	if err == nil {
		err = m.sealer.open(forSignIn, cookie.Value, &b)
	}
	setCookie(w, signInCookie, "", -1)
	q := r.URL.Query()
	if err != nil || m.cfg.Now().After(b.Until) || subtle.ConstantTimeCompare([]byte(b.State), []byte(q.Get("state"))) != 1 {
		return ErrSignIn
	}
	if refusal := q.Get("error"); refusal != "" {
		return fmt.Errorf("%w: the issuer says %q", ErrSignIn, clip(refusal+" "+q.Get("error_description")))
	}
	s, err := m.issuer.exchange(r.Context(), b, q.Get("code"))
	if err != nil {
		return err
	}
	m.remember("", s)
	if err := m.give(w, s); err != nil {
		return err
	}
	m.cfg.Log.Info("signed in", "op", "sign in", "user", s.Name, "roles", s.Roles)
	http.Redirect(w, r, b.To, http.StatusSeeOther)
	return nil
}

// SignOut ends the session, here and at the issuer, and gives where to go.
func (m *Manager) SignOut(w http.ResponseWriter, r *http.Request, s *Session, signedOut string) string {
	m.end(s)
	m.clear(w)
	if err := m.issuer.revoke(r.Context(), s.kept.Refresh); err != nil {
		m.cfg.Log.Warn("refresh token not revoked", "op", "sign out", "user", s.Name, "error", err)
	}
	m.cfg.Log.Info("signed out", "op", "sign out", "user", s.Name)
	origin, ok := m.origin(r)
	if end := m.issuer.endSession(); ok && m.cfg.SignOutOfIssuer && end != "" {
		return end + "?" + url.Values{"client_id": {m.cfg.ClientID}, "post_logout_redirect_uri": {origin + signedOut}}.Encode()
	}
	return signedOut
}

// origin is how the browser calls us, when that is one of our names.
func (m *Manager) origin(r *http.Request) (string, bool) {
	origin := "https://" + r.Host
	return origin, slices.Contains(m.cfg.Origins, origin)
}

// LocalPath gives a path of ours to go to, or "/": a link to us must not lead
// anywhere else.
func LocalPath(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "" || u.Host != "" || u.Opaque != "" || !strings.HasPrefix(to, "/") ||
		strings.HasPrefix(to, "//") || strings.ContainsAny(to, "\\\r\n\t") || strings.HasPrefix(to, "/auth/") {
		return "/"
	}
	return to
}

func clip(s string) string {
	if len(s) > 200 {
		return strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}
