package oidcclient

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/nationtech/fleetctl/internal/hint"
)

const testIssuer = "https://id.example"

var testKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// fakeIssuer answers without a network, so that its clock can be the bubble's.
type fakeIssuer struct {
	t       *testing.T
	answers []string // to polls: an error, "down", "unavailable", or "ok"
	polls   []time.Duration
	began   time.Time
	nonce   string
	edit    func(claims map[string]any) // of the ID token
}

func (f *fakeIssuer) RoundTrip(req *http.Request) (*http.Response, error) {
	body := []byte{}
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body)
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		f.t.Error(err)
	}
	switch req.URL.Path {
	case "/.well-known/openid-configuration":
		return answer(req, 200, map[string]any{"issuer": testIssuer, "token_endpoint": testIssuer + "/token", "jwks_uri": testIssuer + "/keys",
			"device_authorization_endpoint": testIssuer + "/device", "id_token_signing_alg_values_supported": []string{"RS256"}})
	case "/keys":
		return answer(req, 200, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &testKey().PublicKey, KeyID: "1", Algorithm: "RS256", Use: "sig"}}})
	case "/device":
		f.nonce = form.Get("nonce")
		return answer(req, 200, map[string]any{"device_code": "d", "user_code": "U", "verification_uri": testIssuer + "/go", "expires_in": 60, "interval": 2})
	case "/token":
		f.polls = append(f.polls, time.Since(f.began))
		next := f.answers[0]
		if len(f.answers) > 1 {
			f.answers = f.answers[1:]
		}
		switch next {
		case "down":
			return nil, errors.New("connection refused")
		case "unavailable":
			return answer(req, 503, map[string]any{})
		case "ok":
			return answer(req, 200, map[string]any{"access_token": "opaque", "token_type": "Bearer", "expires_in": 300, "refresh_token": "r", "id_token": f.idToken()})
		}
		return answer(req, 400, map[string]any{"error": next})
	}
	f.t.Errorf("%s %s", req.Method, req.URL)
	return answer(req, 404, nil)
}

func (f *fakeIssuer) idToken() string {
	claims := map[string]any{"iss": testIssuer, "aud": "client", "sub": "7", "name": "Ada", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(), "nonce": f.nonce}
	if f.edit != nil {
		f.edit(claims)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: testKey()}, (&jose.SignerOptions{}).WithHeader("kid", "1"))
	if err != nil {
		f.t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		f.t.Fatal(err)
	}
	return token
}

func answer(req *http.Request, status int, body any) (*http.Response, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Request: req, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(string(data)))}, nil
}

func (f *fakeIssuer) signIn(ctx context.Context) (Tokens, error) {
	f.t.Helper()
	f.began = time.Now()
	p, err := Discover(ctx, Config{Issuer: testIssuer, ClientID: "client", HTTPClient: &http.Client{Transport: f}})
	if err != nil {
		f.t.Fatal(err)
	}
	code, err := p.Begin(ctx)
	if err != nil {
		f.t.Fatal(err)
	}
	return p.Wait(ctx, code)
}

// TestPolling: the issuer is asked as often as it wants, and not given up for a
// moment's silence.
func TestPolling(t *testing.T) {
	testKey()
	for name, tt := range map[string]struct {
		answers []string
		polls   []int // seconds since the beginning
		fails   string
	}{
		"approved":           {[]string{"authorization_pending", "authorization_pending", "ok"}, []int{2, 4, 6}, ""},
		"too fast":           {[]string{"authorization_pending", "slow_down", "slow_down", "ok"}, []int{2, 4, 11, 23}, ""},
		"issuer restarts":    {[]string{"down", "unavailable", "authorization_pending", "ok"}, []int{2, 6, 14, 16}, ""},
		"denied":             {[]string{"authorization_pending", "access_denied"}, []int{2, 4}, "denied"},
		"expired":            {[]string{"slow_down", "slow_down", "slow_down", "slow_down"}, []int{2, 9, 21, 38}, "expired"},
		"expired, by itself": {[]string{"expired_token"}, []int{2}, "expired"},
		"unknown":            {[]string{"server_on_fire"}, []int{2}, "server_on_fire"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeIssuer{t: t, answers: tt.answers}
				tokens, err := f.signIn(t.Context())
				var polls []int
				for _, at := range f.polls {
					polls = append(polls, int(at.Round(time.Second)/time.Second))
				}
				if !slices.Equal(polls, tt.polls) {
					t.Errorf("asked after %v s, want %v", polls, tt.polls)
				}
				if tt.fails == "" && (err != nil || tokens.User.Name != "Ada" || tokens.Refresh != "r") {
					t.Errorf("%+v, %v", tokens, err)
				}
				if tt.fails != "" && (err == nil || !strings.Contains(err.Error(), tt.fails) || hint.Of(err) == "" || hint.Code(err) != hint.CodeAuth) {
					t.Errorf("%v; hint %q", err, hint.Of(err))
				}
			})
		})
	}
}

// TestIDToken: what is wrong with one ends the sign-in.
func TestIDToken(t *testing.T) {
	testKey()
	for name, edit := range map[string]func(map[string]any){
		"good":             nil,
		"without a nonce":  func(c map[string]any) { delete(c, "nonce") },
		"another's nonce":  func(c map[string]any) { c["nonce"] = "x" },
		"another audience": func(c map[string]any) { c["aud"] = "other" },
		"another issuer":   func(c map[string]any) { c["iss"] = "https://evil.example" },
		"expired":          func(c map[string]any) { c["exp"] = time.Now().Add(-time.Hour).Unix() },
		"from the future":  func(c map[string]any) { c["iat"] = time.Now().Add(time.Hour).Unix() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tokens, err := (&fakeIssuer{t: t, answers: []string{"ok"}, edit: edit}).signIn(t.Context())
				good := edit == nil || name == "without a nonce"
				if good && (err != nil || !strings.Contains(string(tokens.Bearer), ".") || !tokens.Expiry.Equal(time.Now().Add(time.Hour).Truncate(time.Second))) {
					t.Errorf("%v; the ID token is shown to servers, since the access token is no JWT: %+v", err, tokens.Expiry)
				}
				if !good && (err == nil || hint.Of(err) == "" || hint.Code(err) != hint.CodeAuth) {
					t.Errorf("%v; hint %q", err, hint.Of(err))
				}
			})
		})
	}
}

func TestInterrupted(t *testing.T) {
	testKey()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 3*time.Second, errors.New("ctrl-C"))
		defer cancel()
		f := &fakeIssuer{t: t, answers: []string{"authorization_pending"}}
		if _, err := f.signIn(ctx); err == nil || !strings.Contains(err.Error(), "ctrl-C") || len(f.polls) != 1 {
			t.Errorf("%v after %v", err, f.polls)
		}
	})
}
