package verify_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/nationtech/fleetctl/internal/identity/verify"
)

// issuer publishes keys; what it is called and whether it answers can change.
type issuer struct {
	*httptest.Server
	mu      sync.Mutex
	keys    []jose.JSONWebKey
	name    string
	down    atomic.Bool
	fetches atomic.Int32
}

func newIssuer(t testing.TB, keys ...jose.JSONWebKey) *issuer {
	i := &issuer{keys: keys}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if i.down.Load() {
			http.Error(w, "down", http.StatusBadGateway)
			return
		}
		i.mu.Lock()
		defer i.mu.Unlock()
		if r.URL.Path == "/keys" {
			i.fetches.Add(1)
			_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: i.keys})
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": i.name, "jwks_uri": i.URL + "/keys"})
	}))
	i.name = i.URL
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) publish(keys ...jose.JSONWebKey) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = keys
}

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func public(id string, key any) jose.JSONWebKey {
	return jose.JSONWebKey{KeyID: id, Key: key, Use: "sig"}
}

func sign(t testing.TB, alg jose.SignatureAlgorithm, key any, id string, claims any) string {
	t.Helper()
	opts := &jose.SignerOptions{}
	if id != "" {
		opts = opts.WithHeader("kid", id)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, opts)
	if err != nil {
		t.Fatal(err)
	}
	payload, ok := claims.(string)
	if !ok {
		data, err := json.Marshal(claims)
		if err != nil {
			t.Fatal(err)
		}
		payload = string(data)
	}
	signed, err := signer.Sign([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// clock is set by tests.
type clock struct{ now atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.now.Store(1_700_000_000)
	return c
}
func (c *clock) Now() time.Time          { return time.Unix(c.now.Load(), 0) }
func (c *clock) Advance(d time.Duration) { c.now.Add(int64(d / time.Second)) }

func claimsOf(i *issuer, c *clock, change map[string]any) map[string]any {
	claims := map[string]any{
		"iss": i.URL, "sub": "u1", "aud": []string{"other", "project"}, "exp": c.Now().Add(time.Hour).Unix(), "iat": c.Now().Unix(),
		"preferred_username": "ada", "name": "Ada L.", "email": "ada@example.com",
		verify.DefaultRolesClaim: map[string]any{"fleet-viewer": map[string]string{"1": "d"}, "fleet-admin": map[string]string{}},
	}
	for name, value := range change {
		if value == nil {
			delete(claims, name)
			continue
		}
		claims[name] = value
	}
	return claims
}

func TestGoodToken(t *testing.T) {
	i, c := newIssuer(t, public("k1", rsaKey().Public())), newClock()
	v := verify.New(t.Context(), verify.Config{Issuer: i.URL, Audiences: []string{"project"}, IDClaim: "urn:x.id", Clock: c.Now})
	got, err := v.Verify(t.Context(), sign(t, jose.RS256, rsaKey(), "k1", claimsOf(i, c, map[string]any{"urn:x": map[string]string{"id": "device-pi-1"}})))
	if err != nil {
		t.Fatal(err)
	}
	want := verify.Claims{Subject: "u1", Username: "ada", Name: "Ada L.", Email: "ada@example.com", ID: "device-pi-1",
		Roles: []string{"fleet-admin", "fleet-viewer"}, Expiry: c.Now().Add(time.Hour), Raw: got.Raw}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if _, err := v.Verify(t.Context(), sign(t, jose.RS256, rsaKey(), "", claimsOf(i, c, nil))); err != nil {
		t.Errorf("a token without a key id: %v", err)
	}
}

func TestRolesClaims(t *testing.T) {
	i, c := newIssuer(t, public("k1", rsaKey().Public())), newClock()
	v := verify.New(t.Context(), verify.Config{Issuer: i.URL, Audiences: []string{"project"}, RolesClaim: "realm.roles", Clock: c.Now})
	for name, tt := range map[string]struct {
		claim any
		want  []string
	}{
		"list":    {map[string]any{"roles": []any{"b", 1, "a"}}, []string{"a", "b"}},
		"one":     {map[string]any{"roles": "a"}, []string{"a"}},
		"object":  {map[string]any{"roles": map[string]any{"a": nil}}, []string{"a"}},
		"nothing": {map[string]any{}, nil},
		"number":  {map[string]any{"roles": 7}, nil},
		"no path": {"roles", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := v.Verify(t.Context(), sign(t, jose.RS256, rsaKey(), "k1", claimsOf(i, c, map[string]any{"realm": tt.claim})))
			if err != nil || !reflect.DeepEqual(got.Roles, tt.want) {
				t.Errorf("got %v, %v; want %v", got.Roles, err, tt.want)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	i, c := newIssuer(t, public("k1", rsaKey().Public())), newClock()
	v := verify.New(t.Context(), verify.Config{Issuer: i.URL, Audiences: []string{"project"}, Clock: c.Now, Leeway: 30 * time.Second})
	good := func(change map[string]any) string {
		return sign(t, jose.RS256, rsaKey(), "k1", claimsOf(i, c, change))
	}
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(rsaKey().Public())
	if err != nil {
		t.Fatal(err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	parts := strings.Split(good(nil), ".")
	b64 := base64.RawURLEncoding.EncodeToString
	twice, err := json.Marshal(claimsOf(i, c, nil))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		token string
		want  error
	}{
		"nothing":                {"", verify.ErrMalformed},
		"not a token":            {"a.b.c", verify.ErrMalformed},
		"huge":                   {parts[0] + "." + strings.Repeat("A", 1<<20) + "." + parts[2], verify.ErrMalformed},
		"no signature":           {parts[0] + "." + parts[1] + ".", verify.ErrSignature},
		"alg none":               {b64([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".", verify.ErrAlgorithm},
		"HS256, the public key":  {sign(t, jose.HS256, publicPEM, "k1", claimsOf(i, c, nil)), verify.ErrAlgorithm},
		"another's key":          {sign(t, jose.RS256, stranger, "k1", claimsOf(i, c, nil)), verify.ErrSignature},
		"a key id nobody knows":  {sign(t, jose.RS256, stranger, "k9", claimsOf(i, c, nil)), verify.ErrUnknownKey},
		"another kind of key":    {sign(t, jose.ES256, curve, "k1", claimsOf(i, c, nil)), verify.ErrSignature},
		"edited":                 {parts[0] + "." + b64([]byte(`{"sub":"root"}`)) + "." + parts[2], verify.ErrSignature},
		"another issuer":         {good(map[string]any{"iss": "https://evil.example"}), verify.ErrIssuer},
		"no issuer":              {good(map[string]any{"iss": nil}), verify.ErrIssuer},
		"another audience":       {good(map[string]any{"aud": "other"}), verify.ErrAudience},
		"no audience":            {good(map[string]any{"aud": nil}), verify.ErrAudience},
		"expired":                {good(map[string]any{"exp": c.Now().Add(-31 * time.Second).Unix()}), verify.ErrExpired},
		"never expires":          {good(map[string]any{"exp": nil}), verify.ErrMalformed},
		"expires in a text":      {good(map[string]any{"exp": "2099"}), verify.ErrMalformed},
		"not yet":                {good(map[string]any{"nbf": c.Now().Add(time.Minute).Unix()}), verify.ErrNotYetValid},
		"made in the future":     {good(map[string]any{"iat": c.Now().Add(time.Minute).Unix()}), verify.ErrNotYetValid},
		"no subject":             {good(map[string]any{"sub": nil}), verify.ErrMalformed},
		"two claims of one name": {sign(t, jose.RS256, rsaKey(), "k1", `{"sub":"root",`+string(twice[1:])), verify.ErrMalformed},
		"claims in a list":       {sign(t, jose.RS256, rsaKey(), "k1", `[]`), verify.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := v.Verify(t.Context(), tt.token)
			if !errors.Is(err, tt.want) || got.Subject != "" {
				t.Errorf("got %+v, %v; want %v", got, err, tt.want)
			}
		})
	}
	for name, change := range map[string]map[string]any{
		"expired within the leeway": {"exp": c.Now().Add(-29 * time.Second).Unix()},
		"early within the leeway":   {"nbf": c.Now().Add(29 * time.Second).Unix()},
	} {
		if _, err := v.Verify(t.Context(), good(change)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRotation: a new key is found when a token first names it, a withdrawn one
// is forgotten, and made-up key ids do not make us ask without end.
func TestRotation(t *testing.T) {
	i, c := newIssuer(t, public("k1", rsaKey().Public())), newClock()
	v := verify.New(t.Context(), verify.Config{Issuer: i.URL, Audiences: []string{"project"}, Clock: c.Now})
	old := sign(t, jose.RS256, rsaKey(), "k1", claimsOf(i, c, nil))
	if _, err := v.Verify(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	next, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i.publish(public("k2", next.Public()))
	c.Advance(time.Minute)
	if _, err := v.Verify(t.Context(), sign(t, jose.RS256, next, "k2", claimsOf(i, c, nil))); err != nil {
		t.Fatalf("a token of the new key: %v", err)
	}
	if _, err := v.Verify(t.Context(), old); !errors.Is(err, verify.ErrUnknownKey) {
		t.Errorf("a token of the withdrawn key: %v", err)
	}
	asked := i.fetches.Load()
	for range 50 {
		if _, err := v.Verify(t.Context(), sign(t, jose.RS256, next, "made-up", claimsOf(i, c, nil))); !errors.Is(err, verify.ErrUnknownKey) {
			t.Fatal(err)
		}
	}
	if n := i.fetches.Load() - asked; n > 1 {
		t.Errorf("50 made-up key ids: the issuer was asked %d times", n)
	}
}

// TestOutage: keys that were had stay in use, and an issuer that was down at
// the start is found later.
func TestOutage(t *testing.T) {
	i, c := newIssuer(t, public("k1", rsaKey().Public())), newClock()
	v := verify.New(t.Context(), verify.Config{Issuer: i.URL, Audiences: []string{"project"}, Clock: c.Now})
	token := func() string { return sign(t, jose.RS256, rsaKey(), "k1", claimsOf(i, c, nil)) }
	i.down.Store(true)
	if _, err := v.Verify(t.Context(), token()); !errors.Is(err, verify.ErrUnavailable) {
		t.Fatalf("issuer down from the start: %v", err)
	}
	i.down.Store(false)
	c.Advance(time.Minute)
	if _, err := v.Verify(t.Context(), token()); err != nil {
		t.Fatalf("issuer up: %v", err)
	}
	i.down.Store(true)
	for range 6 {
		c.Advance(time.Hour)
		if _, err := v.Verify(t.Context(), token()); err != nil {
			t.Fatalf("issuer down for hours: %v", err)
		}
	}
}

func TestStrangeIssuers(t *testing.T) {
	i, c := newIssuer(t, public("k1", rsaKey().Public())), newClock()
	i.name = "https://evil.example"
	secret := newIssuer(t, jose.JSONWebKey{KeyID: "k1", Key: []byte("0123456789abcdef0123456789abcdef"), Use: "sig"})
	for name, url := range map[string]string{"called otherwise": i.URL, "publishes a secret": secret.URL, "plain HTTP": "http://issuer.invalid"} {
		v := verify.New(t.Context(), verify.Config{Issuer: url, Audiences: []string{"project"}, Clock: c.Now})
		if err := v.Warm(t.Context()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestTogether: a fleet that comes back at once asks the issuer once.
func TestTogether(t *testing.T) {
	i, c := newIssuer(t, public("k1", rsaKey().Public())), newClock()
	v := verify.New(context.Background(), verify.Config{Issuer: i.URL, Audiences: []string{"project"}, Clock: c.Now})
	token := sign(t, jose.RS256, rsaKey(), "k1", claimsOf(i, c, nil))
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if _, err := v.Verify(context.Background(), token); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := i.fetches.Load(); n != 1 {
		t.Errorf("the issuer was asked %d times", n)
	}
}

func BenchmarkVerify(b *testing.B) {
	i := newIssuer(b, public("k1", rsaKey().Public()))
	v := verify.New(b.Context(), verify.Config{Issuer: i.URL, Audiences: []string{"project"}})
	claims := maps.Clone(claimsOf(i, newClock(), nil))
	claims["exp"] = time.Now().Add(time.Hour).Unix()
	token := sign(b, jose.RS256, rsaKey(), "k1", claims)
	for b.Loop() {
		if _, err := v.Verify(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	}
}
