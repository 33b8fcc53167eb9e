package issuer_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/oauth2"

	"github.com/nationtech/fleetctl/internal/issuer"
	"github.com/nationtech/fleetctl/internal/pki"
)

const (
	rolesScope = "urn:zitadel:iam:org:projects:roles"
	rolesClaim = "urn:zitadel:iam:org:project:roles"
	redirect   = "http://127.0.0.1:9999/callback"
	password   = "correct horse battery staple"
)

// clock is the issuer's; it runs on from where it is set, until it is stopped.
type clock struct {
	mu      sync.Mutex
	offset  time.Duration
	stopped time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopped.IsZero() {
		return c.stopped.Add(c.offset)
	}
	return time.Now().Add(c.offset)
}

// stop is for tests of how soon is too soon, on machines of any speed.
func (c *clock) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = time.Now()
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
}

// fixture is a running issuer and independent clients of it.
type fixture struct {
	*issuer.Issuer
	t     testing.TB
	dir   string
	clock *clock
	http  *http.Client // trusts the CA, has no cookies, follows no redirect
	ctx   context.Context
	oidc  *oidc.Provider
	oauth oauth2.Config
	stop  func()
}

func start(t testing.TB) *fixture { return startAt(t, t.TempDir(), "127.0.0.1:0", 0) }

// startAt starts an issuer on what is in dir, with its clock set ahead.
func startAt(t testing.TB, dir, address string, ahead time.Duration) *fixture {
	t.Helper()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ca, err := pki.Open(filepath.Join(dir, "pki"))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.ServerCert("issuer", []string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	listener := listen(t, address)
	f := &fixture{t: t, dir: dir, clock: &clock{offset: ahead}}
	f.Issuer, err = issuer.Start(t.Context(), issuer.Config{
		Dir: filepath.Join(dir, "issuer"), URL: "https://" + listener.Addr().String(), Listener: listener,
		TLS: cert.TLSConfig(), Log: slog.New(slog.DiscardHandler), Now: f.clock.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	f.stop = sync.OnceFunc(func() {
		f.http.CloseIdleConnections()
		if err := f.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { f.stop() })
	f.http = client(ca.Pool(), nil)
	f.ctx = oidc.ClientContext(t.Context(), f.http)
	if f.oidc, err = oidc.NewProvider(f.ctx, f.URL); err != nil {
		t.Fatal(err)
	}
	endpoint := f.oidc.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInParams
	f.oauth = oauth2.Config{
		ClientID: f.CLIClientID, Endpoint: endpoint, RedirectURL: redirect,
		Scopes: []string{"openid", "profile", "offline_access", rolesScope, f.projectScope()},
	}
	return f
}

// listen waits for a port that an earlier start had: for a moment a connection
// of another test may go out from it.
func listen(t testing.TB, address string) net.Listener {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		l, err := net.Listen("tcp", address)
		if err == nil {
			return l
		}
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func (f *fixture) projectScope() string {
	return "urn:zitadel:iam:org:project:id:" + f.ProjectID + ":aud"
}

func client(pool *x509.CertPool, jar http.CookieJar) *http.Client {
	return &http.Client{
		Jar: jar, Timeout: 30 * time.Second,
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, MaxIdleConnsPerHost: 64},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// browser keeps cookies.
func (f *fixture) browser() *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		f.t.Fatal(err)
	}
	return &http.Client{Jar: jar, Timeout: 30 * time.Second, Transport: f.http.Transport, CheckRedirect: f.http.CheckRedirect}
}

// person adds a user; all have the same password.
func (f *fixture) person(name string, roles ...string) {
	f.t.Helper()
	people, err := issuer.OpenPeople(f.t.Context(), filepath.Join(f.dir, "issuer"))
	if err != nil {
		f.t.Fatal(err)
	}
	defer people.Close()
	if _, err := people.Add(f.t.Context(), issuer.NewPerson{Username: name, Password: password, Roles: roles}); err != nil {
		f.t.Fatal(err)
	}
}

var tokenField = regexp.MustCompile(`name="token" value="([^"]*)"`)

// response is one that has been read.
type response struct {
	Status int
	Header http.Header
	Body   []byte
}

// fill gets a page and posts its form with values.
func (f *fixture) fill(b *http.Client, page string, values url.Values) response {
	f.t.Helper()
	res := f.get(b, page)
	match := tokenField.FindSubmatch(res.Body)
	if res.Status != http.StatusOK || match == nil {
		f.t.Fatalf("GET %s: %d, no form\n%s", page, res.Status, res.Body)
	}
	values.Set("token", string(match[1]))
	path, _, _ := strings.Cut(page, "?")
	return f.post(b, path, values)
}

func (f *fixture) get(b *http.Client, page string) response {
	f.t.Helper()
	res, err := b.Get(page)
	return f.read(res, err)
}

func (f *fixture) post(b *http.Client, to string, values url.Values) response {
	f.t.Helper()
	res, err := b.PostForm(to, values)
	return f.read(res, err)
}

func (f *fixture) read(res *http.Response, err error) response {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return response{res.StatusCode, res.Header, body}
}

func (f *fixture) decide(userCode, name, action string) response {
	f.t.Helper()
	return f.fill(f.browser(), f.URL+"/device?user_code="+userCode, url.Values{
		"user_code": {userCode}, "username": {name}, "password": {password}, "action": {action},
	})
}

func (f *fixture) approve(userCode, name string) {
	f.t.Helper()
	if res := f.decide(userCode, name, "approve"); res.Status != http.StatusOK {
		f.t.Fatalf("approve: %d", res.Status)
	}
}

// signIn is the device flow; it does not wait before it asks for the token.
func (f *fixture) signIn(name string) *oauth2.Token {
	f.t.Helper()
	code, err := f.oauth.DeviceAuth(f.ctx)
	if err != nil {
		f.t.Fatal(err)
	}
	f.approve(code.UserCode, name)
	got := f.poll(code, f.CLIClientID)
	if got.AccessToken == "" {
		f.t.Fatalf("%+v", got)
	}
	return &oauth2.Token{AccessToken: got.AccessToken, RefreshToken: got.RefreshToken, TokenType: "Bearer"}
}

func (f *fixture) poll(code *oauth2.DeviceAuthResponse, client string) answer {
	f.t.Helper()
	return f.token(url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {code.DeviceCode}, "client_id": {client}})
}

// code signs in with a browser and gives the code and its verifier.
func (f *fixture) code(name string) (code, verifier string) {
	f.t.Helper()
	b := f.browser()
	verifier = oauth2.GenerateVerifier()
	callback := f.login(b, f.begin(b, f.oauth.AuthCodeURL("st", oauth2.S256ChallengeOption(verifier))), name)
	to := f.location(f.get(b, callback))
	if to.Query().Get("state") != "st" || !strings.HasPrefix(to.String(), redirect) {
		f.t.Fatalf("redirected to %s", to)
	}
	return to.Query().Get("code"), verifier
}

// begin follows an authorisation URL to the login page.
func (f *fixture) begin(b *http.Client, authorize string) string {
	f.t.Helper()
	return f.URL + f.location(f.get(b, authorize)).RequestURI()
}

// login fills the login page in and gives the callback's URL.
func (f *fixture) login(b *http.Client, page, name string) string {
	f.t.Helper()
	u, err := url.Parse(page)
	if err != nil {
		f.t.Fatal(err)
	}
	res := f.fill(b, page, url.Values{"id": {u.Query().Get("id")}, "username": {name}, "password": {password}})
	return f.URL + f.location(res).RequestURI()
}

func (f *fixture) location(res response) *url.URL {
	f.t.Helper()
	to, err := url.Parse(res.Header.Get("Location"))
	if err != nil || to.String() == "" {
		f.t.Fatalf("%d, no redirect", res.Status)
	}
	return to
}

// claims checks an access token with go-oidc and gives what it says.
func (f *fixture) claims(token string) (map[string]any, error) {
	verifier := f.oidc.VerifierContext(f.ctx, &oidc.Config{ClientID: f.ProjectID, SupportedSigningAlgs: []string{"RS256"}})
	parsed, err := verifier.Verify(f.ctx, token)
	if err != nil {
		return nil, err
	}
	claims := map[string]any{}
	return claims, parsed.Claims(&claims)
}

// machine is a device with a key of its own.
type machine struct {
	id, keyID string
	key       *rsa.PrivateKey
}

// The keys of all machines of the tests, since making them takes long.
var machineKeys = sync.OnceValue(func() [2]*rsa.PrivateKey {
	var keys [2]*rsa.PrivateKey
	for i := range keys {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		keys[i] = key
	}
	return keys
})

func publicPEM(t testing.TB, key *rsa.PrivateKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// enrol does over the management API what `fleetctl enroll` does.
func (f *fixture) enrol(admin, device string, key *rsa.PrivateKey) machine {
	f.t.Helper()
	m := machine{key: key}
	m.id = f.must(admin, "POST", "/users/machine", map[string]any{"userName": "device-" + device, "name": device})["userId"].(string)
	f.must(admin, "POST", "/users/"+m.id+"/grants", map[string]any{"projectId": f.ProjectID, "roleKeys": []string{"fleet-device"}})
	m.keyID = f.must(admin, "POST", "/users/"+m.id+"/keys", map[string]any{"type": "KEY_TYPE_JSON", "publicKey": publicPEM(f.t, key)})["keyId"].(string)
	return m
}

func (f *fixture) call(token, method, path string, body any) (int, map[string]any) {
	f.t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		f.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(f.t.Context(), method, f.URL+"/management/v1"+path, bytes.NewReader(data))
	if err != nil {
		f.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := f.http.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer res.Body.Close()
	out := map[string]any{}
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil {
		f.t.Fatalf("%s %s: %s, %v", method, path, res.Status, err)
	}
	return res.StatusCode, out
}

func (f *fixture) must(token, method, path string, body any) map[string]any {
	f.t.Helper()
	status, out := f.call(token, method, path, body)
	if status != http.StatusOK {
		f.t.Fatalf("%s %s: %d %v", method, path, status, out)
	}
	return out
}

// assertion is what a machine signs, after edit has had its way with it.
func (f *fixture) assertion(m machine, edit func(*jwt.Claims)) string {
	f.t.Helper()
	claims := jwt.Claims{
		Issuer: m.id, Subject: m.id, Audience: jwt.Audience{f.URL},
		IssuedAt: jwt.NewNumericDate(time.Now()), Expiry: jwt.NewNumericDate(time.Now().Add(time.Minute)),
	}
	if edit != nil {
		edit(&claims)
	}
	return sign(f.t, jose.RS256, m.key, m.keyID, claims)
}

func sign(t testing.TB, alg jose.SignatureAlgorithm, key any, keyID string, claims any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", keyID))
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

type answer struct {
	Status           int
	AccessToken      string `json:"access_token"`
	RefreshToken     string `json:"refresh_token"`
	Error            string `json:"error"`
	ErrorDescription string `json:"error_description"`
}

func (f *fixture) token(values url.Values) answer {
	f.t.Helper()
	res := f.post(f.http, f.URL+"/oauth/token", values)
	a := answer{Status: res.Status}
	if err := json.Unmarshal(res.Body, &a); err != nil {
		f.t.Fatalf("%d: %v", res.Status, err)
	}
	return a
}

func (f *fixture) mint(assertion string) answer {
	f.t.Helper()
	return f.token(url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {assertion},
		"scope": {"openid " + f.projectScope() + " " + rolesScope},
	})
}

func (f *fixture) refresh(token string) answer {
	f.t.Helper()
	return f.token(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}, "client_id": {f.CLIClientID}})
}

func (f *fixture) redeem(code, verifier string) answer {
	f.t.Helper()
	return f.token(url.Values{"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {verifier}, "redirect_uri": {redirect}, "client_id": {f.CLIClientID}})
}
