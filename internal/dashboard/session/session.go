package session

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/nationtech/fleetctl/internal/identity/role"
	"github.com/nationtech/fleetctl/internal/identity/verify"
)

const (
	// __Host-: set by this host, over TLS, for no other.
	sessionCookie = "__Host-fleet-session"
	signInCookie  = "__Host-fleet-signin"

	maxAge = 12 * time.Hour // of a session, however often it is renewed
	// renewEarly is how long before its end an access token is replaced.
	renewEarly = 30 * time.Second
	// handOver is how long requests that left with the old cookie still find
	// the new session.
	handOver = 2 * time.Minute
)

var (
	// ErrNone says that there is no session: sign in.
	ErrNone = errors.New("no session")
	// ErrIssuer says that the issuer does not answer as it should.
	ErrIssuer = errors.New("the issuer does not answer")
)

// Token is an access token.
type Token string

func (Token) String() string       { return "[redacted]" }
func (Token) GoString() string     { return "[redacted]" }
func (Token) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// Verifier checks tokens.
type Verifier interface {
	Verify(ctx context.Context, token string) (verify.Claims, error)
}

// Session is somebody who is signed in.
type Session struct {
	Subject string
	Name    string
	Roles   []string
	Expires time.Time // when it has to be renewed
	Token   Token

	kept kept
}

// Allows says whether the person's roles allow what takes the role.
func (s *Session) Allows(wants string) bool { return role.Allows(s.Roles, wants) }

// kept is what is in the cookie. The access token is not: it is too long for
// some browsers' cookies, and can be had anew.
type kept struct {
	ID      string    `json:"id"` // of this cookie
	Began   time.Time `json:"began"`
	Forms   []byte    `json:"forms"` // key of the tokens in forms
	Subject string    `json:"sub"`
	Name    string    `json:"name"`
	Roles   []string  `json:"roles"`
	Expires time.Time `json:"expires"`
	Refresh string    `json:"refresh,omitempty"`
}

// Manager keeps sessions. It is safe for concurrent use.
type Manager struct {
	cfg     Config
	sealer  *sealer
	issuer  *issuer
	renewal singleflight.Group

	mu      sync.Mutex
	tokens  map[string]held // by id of the cookie
	ended   map[string]time.Time
	renewed map[string]held // what became of the session with the id
}

// held is what is kept in memory for a while.
type held struct {
	session *Session
	until   time.Time
}

// Get gives the request's session, and the browser a new cookie when the
// session was renewed. Its errors are ErrNone and ErrIssuer.
func (m *Manager) Get(w http.ResponseWriter, r *http.Request) (*Session, error) {
	cookie, err := r.Cookie(sessionCookie)
	if err != nil {
		return nil, ErrNone
	}
	var k kept
	if err := m.sealer.open(forSession, cookie.Value, &k); err != nil {
		m.clear(w)
		return nil, ErrNone
	}
	now := m.cfg.Now()
	if now.Sub(k.Began) > maxAge || m.hasEnded(k.ID) {
		m.clear(w)
		return nil, ErrNone
	}
	if s := m.known(k.ID, now); s != nil {
		return s, nil
	}
	return m.renew(w, r, k)
}

// known is the session when its access token is at hand and good for a while.
func (m *Manager) known(id string, now time.Time) *Session {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, ok := m.tokens[id]
	if !ok || !now.Add(renewEarly).Before(h.session.Expires) {
		return nil
	}
	return h.session
}

// renew gets a fresh access token, once for all requests that came with the
// same cookie: a refresh token may be used once.
func (m *Manager) renew(w http.ResponseWriter, r *http.Request, k kept) (*Session, error) {
	if k.Refresh == "" {
		m.clear(w)
		return nil, ErrNone
	}
	answer, err, _ := m.renewal.Do(k.ID, func() (any, error) {
		m.mu.Lock()
		h, done := m.renewed[k.ID]
		m.mu.Unlock()
		if done && m.cfg.Now().Before(h.until) {
			return h.session, nil
		}
		// Others may wait for this: it must not end with one of the requests.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), issuerTimeout)
		defer cancel()
		s, err := m.issuer.refresh(ctx, k)
		if err != nil {
			return nil, err
		}
		m.remember(k.ID, s)
		return s, nil
	})
	if errors.Is(err, ErrNone) {
		m.cfg.Log.Info("session ended by the issuer", "op", "renew session", "user", k.Name, "error", err)
		m.clear(w)
	}
	if err != nil {
		return nil, err
	}
	s := answer.(*Session)
	return s, m.give(w, s)
}

// remember keeps a session's access token, and what became of the one before.
func (m *Manager) remember(before string, s *Session) {
	now := m.cfg.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, h := range m.tokens {
		if now.After(h.until) {
			delete(m.tokens, id)
		}
	}
	for id, h := range m.renewed {
		if now.After(h.until) {
			delete(m.renewed, id)
		}
	}
	for id, until := range m.ended {
		if now.After(until) {
			delete(m.ended, id)
		}
	}
	m.tokens[s.kept.ID] = held{s, s.Expires}
	if before != "" {
		m.renewed[before] = held{s, now.Add(handOver)}
	}
}

func (m *Manager) hasEnded(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ended := m.ended[id]
	return ended
}

// end makes a session's cookie worthless here, whoever has a copy of it.
func (m *Manager) end(s *Session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended[s.kept.ID] = s.kept.Began.Add(maxAge)
	delete(m.tokens, s.kept.ID)
	for before, h := range m.renewed {
		if h.session == s {
			delete(m.renewed, before)
		}
	}
}

// give hands the browser the session's cookie.
func (m *Manager) give(w http.ResponseWriter, s *Session) error {
	value, err := m.sealer.seal(forSession, s.kept)
	if err != nil {
		return fmt.Errorf("seal session: %w", err)
	}
	setCookie(w, sessionCookie, value, int(maxAge.Seconds()))
	return nil
}

func (m *Manager) clear(w http.ResponseWriter) { setCookie(w, sessionCookie, "", -1) }

// setCookie: Lax, since people come by links and from the issuer; what changes
// something asks for a form token besides.
func setCookie(w http.ResponseWriter, name, value string, seconds int) {
	http.SetCookie(w, &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: seconds, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

// FormToken is "<random>.<MAC>": fresh each time, so that compressed answers
// do not betray it.
func (s *Session) FormToken() string {
	salt := rand.Text()
	return salt + "." + s.mac(salt)
}

func (s *Session) mac(salt string) string {
	h := hmac.New(sha256.New, s.kept.Forms)
	h.Write([]byte(salt))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// FormField is the name of a form's token; FormHeader the header of requests
// by script.
const (
	FormField  = "token"
	FormHeader = "Fleet-Form-Token"
)

// Genuine says whether a request that changes something came from a page of
// ours that this session was given.
func (s *Session) Genuine(r *http.Request) bool {
	if http.NewCrossOriginProtection().Check(r) != nil {
		return false
	}
	token := r.Header.Get(FormHeader)
	if token == "" {
		token = r.PostFormValue(FormField)
	}
	salt, mac, _ := strings.Cut(token, ".")
	return salt != "" && subtle.ConstantTimeCompare([]byte(mac), []byte(s.mac(salt))) == 1
}
