package issuer_test

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/oauth2"

	"github.com/nationtech/fleetctl/internal/issuer"
)

func TestCodeAttacks(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.person("root", issuer.RoleAdmin)

	t.Run("used twice, and what it gave is revoked", func(t *testing.T) {
		code, verifier := f.code("root")
		first := f.redeem(code, verifier)
		if first.Status != http.StatusOK {
			t.Fatalf("%+v", first)
		}
		f.must(first.AccessToken, "GET", "/orgs/me", nil)
		if got := f.redeem(code, verifier); got.Error != "invalid_grant" || got.AccessToken != "" {
			t.Errorf("second use: %+v", got)
		}
		if got := f.refresh(first.RefreshToken); got.Error != "invalid_grant" {
			t.Errorf("refresh token of a code used twice: %+v", got)
		}
		if status, _ := f.call(first.AccessToken, "GET", "/orgs/me", nil); status != http.StatusUnauthorized {
			t.Errorf("access token of a code used twice: %d", status)
		}
	})
	t.Run("used at once by many", func(t *testing.T) {
		code, verifier := f.code("root")
		if n := atOnce(8, func() bool { return f.redeem(code, verifier).AccessToken != "" }); n != 1 {
			t.Errorf("%d were given tokens", n)
		}
	})
	t.Run("wrong verifier, and the code is gone", func(t *testing.T) {
		code, verifier := f.code("root")
		if got := f.redeem(code, oauth2.GenerateVerifier()); got.Error != "invalid_grant" {
			t.Errorf("wrong verifier: %+v", got)
		}
		if got := f.redeem(code, verifier); got.Error != "invalid_grant" {
			t.Errorf("second try: %+v", got)
		}
	})
	t.Run("no verifier", func(t *testing.T) {
		code, _ := f.code("root")
		if got := f.redeem(code, ""); got.AccessToken != "" || got.Error == "" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("other redirect at the token endpoint", func(t *testing.T) {
		code, verifier := f.code("root")
		got := f.token(url.Values{"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {verifier}, "redirect_uri": {"http://127.0.0.1:1/callback"}, "client_id": {f.CLIClientID}})
		if got.Error != "invalid_grant" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("expired", func(t *testing.T) {
		code, verifier := f.code("root")
		f.clock.advance(2 * time.Minute)
		if got := f.redeem(code, verifier); got.Error != "invalid_grant" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("what may not begin", func(t *testing.T) {
		challenge := oauth2.S256ChallengeOption(oauth2.GenerateVerifier())
		for name, options := range map[string][]oauth2.AuthCodeOption{
			"no PKCE":           nil,
			"plain PKCE":        {oauth2.SetAuthURLParam("code_challenge", "x"), oauth2.SetAuthURLParam("code_challenge_method", "plain")},
			"no method":         {oauth2.SetAuthURLParam("code_challenge", "x")},
			"implicit":          {challenge, oauth2.SetAuthURLParam("response_type", "id_token token")},
			"foreign redirect":  {challenge, oauth2.SetAuthURLParam("redirect_uri", "https://evil.example/callback")},
			"longer path":       {challenge, oauth2.SetAuthURLParam("redirect_uri", redirect+"/../evil")},
			"user in the URL":   {challenge, oauth2.SetAuthURLParam("redirect_uri", "http://127.0.0.1:9999@evil.example/callback")},
			"look-alike host":   {challenge, oauth2.SetAuthURLParam("redirect_uri", "http://127.0.0.1.evil.example/callback")},
			"unknown client":    {challenge, oauth2.SetAuthURLParam("client_id", "1")},
			"silently":          {challenge, oauth2.SetAuthURLParam("prompt", "none")},
			"device's own code": {challenge, oauth2.SetAuthURLParam("redirect_uri", "javascript:alert(1)")},
		} {
			res := f.get(f.browser(), f.oauth.AuthCodeURL("st", options...))
			to := res.Header.Get("Location")
			if strings.Contains(to, "evil") || strings.Contains(to, "/login") || strings.HasPrefix(to, "javascript") {
				t.Errorf("%s: %d, to %s", name, res.Status, to)
			}
		}
	})
}

// Whoever begins a sign-in and has another person finish it gets nothing.
func TestSignInOfAnotherBrowser(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.person("root", issuer.RoleAdmin)
	attacker, victim := f.browser(), f.browser()
	page := f.begin(attacker, f.oauth.AuthCodeURL("st", oauth2.S256ChallengeOption(oauth2.GenerateVerifier())))
	callback := f.login(victim, page, "root")
	if res := f.get(attacker, callback); res.Status != http.StatusForbidden || res.Header.Get("Location") != "" {
		t.Fatalf("the attacker's browser gets %d, %s", res.Status, res.Header.Get("Location"))
	}
	if res := f.get(victim, callback); res.Status != http.StatusFound {
		t.Errorf("the victim's browser gets %d", res.Status)
	}
	// And once more: one sign-in, one code.
	if res := f.get(victim, callback); strings.Contains(res.Header.Get("Location"), "code=") {
		t.Errorf("a second code: %s", res.Header.Get("Location"))
	}
}

func TestRefreshAttacks(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.person("root", issuer.RoleAdmin)
	t.Run("used twice", func(t *testing.T) {
		stolen := f.signIn("root").RefreshToken
		next := f.refresh(stolen)
		if next.Status != http.StatusOK {
			t.Fatalf("%+v", next)
		}
		f.must(next.AccessToken, "GET", "/orgs/me", nil)
		if got := f.refresh(stolen); got.Error != "invalid_grant" {
			t.Errorf("second use: %+v", got)
		}
		if got := f.refresh(next.RefreshToken); got.Error != "invalid_grant" {
			t.Errorf("the family lives on: %+v", got)
		}
		if status, _ := f.call(next.AccessToken, "GET", "/orgs/me", nil); status != http.StatusUnauthorized {
			t.Errorf("an access token of the family: %d", status)
		}
	})
	t.Run("used at once by many", func(t *testing.T) {
		token := f.signIn("root").RefreshToken
		var mu sync.Mutex
		var last string
		n := atOnce(8, func() bool {
			got := f.refresh(token)
			mu.Lock()
			defer mu.Unlock()
			if got.RefreshToken != "" {
				last = got.RefreshToken
			}
			return got.AccessToken != ""
		})
		if n > 1 {
			t.Errorf("%d were given tokens", n)
		}
		if got := f.refresh(last); got.Status == http.StatusOK {
			t.Error("the family lives on")
		}
	})
	t.Run("more than was asked for", func(t *testing.T) {
		token := f.signIn("root").RefreshToken
		got := f.token(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}, "client_id": {f.CLIClientID}, "scope": {"openid urn:zitadel:iam:org:project:id:zitadel:aud"}})
		if got.Error != "invalid_scope" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("expired", func(t *testing.T) {
		token := f.signIn("root").RefreshToken
		f.clock.advance(31 * 24 * time.Hour)
		if got := f.refresh(token); got.Error != "invalid_grant" {
			t.Errorf("%+v", got)
		}
	})
}

func TestDeviceCodeAttacks(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.clock.stop()
	f.person("alice", issuer.RoleViewer)
	begin := func() *oauth2.DeviceAuthResponse {
		t.Helper()
		code, err := f.oauth.DeviceAuth(f.ctx)
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	poll := f.poll
	t.Run("too fast, then in time", func(t *testing.T) {
		code := begin()
		if got := poll(code, f.CLIClientID); got.Error != "authorization_pending" {
			t.Errorf("%+v", got)
		}
		if got := poll(code, f.CLIClientID); got.Error != "slow_down" {
			t.Errorf("%+v", got)
		}
		// An approval is not lost to a poll that was too fast.
		f.approve(code.UserCode, "alice")
		if got := poll(code, f.CLIClientID); got.Error != "slow_down" {
			t.Errorf("%+v", got)
		}
		f.clock.advance(3 * time.Second)
		if got := poll(code, f.CLIClientID); got.AccessToken == "" {
			t.Errorf("%+v", got)
		}
		f.clock.advance(3 * time.Second)
		if got := poll(code, f.CLIClientID); got.Error != "expired_token" {
			t.Errorf("redeemed twice: %+v", got)
		}
	})
	t.Run("redeemed at once by many", func(t *testing.T) {
		code := begin()
		f.approve(code.UserCode, "alice")
		if n := atOnce(8, func() bool { return poll(code, f.CLIClientID).AccessToken != "" }); n != 1 {
			t.Errorf("%d were given tokens", n)
		}
	})
	t.Run("another client's", func(t *testing.T) {
		code := begin()
		f.approve(code.UserCode, "alice")
		if got := poll(code, "1"); got.AccessToken != "" || got.Error == "" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("denied", func(t *testing.T) {
		code := begin()
		if res := f.decide(code.UserCode, "alice", "deny"); res.Status != http.StatusOK {
			t.Fatal(res.Status)
		}
		if got := poll(code, f.CLIClientID); got.Error != "access_denied" {
			t.Errorf("%+v", got)
		}
		if res := f.decide(code.UserCode, "alice", "approve"); res.Status != http.StatusNotFound {
			t.Errorf("approved after it was denied: %d", res.Status)
		}
	})
	t.Run("expired", func(t *testing.T) {
		late, code := begin(), begin()
		f.approve(code.UserCode, "alice")
		f.clock.advance(11 * time.Minute)
		for _, code := range []*oauth2.DeviceAuthResponse{late, code} {
			if got := poll(code, f.CLIClientID); got.Error != "expired_token" {
				t.Errorf("%+v", got)
			}
		}
		if res := f.decide(late.UserCode, "alice", "approve"); res.Status != http.StatusNotFound {
			t.Errorf("approved when it had expired: %d", res.Status)
		}
	})
}

func TestForgedForms(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.person("alice", issuer.RoleViewer)
	values := func(token string) url.Values {
		code, err := f.oauth.DeviceAuth(f.ctx)
		if err != nil {
			t.Fatal(err)
		}
		return url.Values{"user_code": {code.UserCode}, "username": {"alice"}, "password": {password}, "action": {"approve"}, "token": {token}}
	}
	page := func(b *http.Client) string {
		return string(tokenField.FindSubmatch(f.get(b, f.URL+"/device").Body)[1])
	}
	mine, other := f.browser(), f.browser()
	myToken, otherToken := page(mine), page(other)
	refused := func(name string, res response) {
		t.Helper()
		if res.Status != http.StatusForbidden {
			t.Errorf("%s: %d", name, res.Status)
		}
	}
	refused("no token", f.post(mine, f.URL+"/device", values("")))
	refused("no cookie", f.post(f.browser(), f.URL+"/device", values(myToken)))
	refused("another browser's token", f.post(mine, f.URL+"/device", values(otherToken)))
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	to, _ := url.Parse(f.URL)
	jar.SetCookies(to, []*http.Cookie{{Name: "__Host-fleet-form", Value: "", Path: "/", Secure: true}})
	refused("empty cookie", f.post(&http.Client{Jar: jar, Transport: f.http.Transport}, f.URL+"/device", values("x.")))

	req, err := http.NewRequestWithContext(t.Context(), "POST", f.URL+"/device", strings.NewReader(values(myToken).Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	res, err := mine.Do(req)
	refused("from another site", f.read(res, err))

	if res := f.post(mine, f.URL+"/device", values(myToken)); res.Status != http.StatusOK {
		t.Errorf("the genuine form: %d", res.Status)
	}
	// What a page may load, and who may frame it.
	shown := f.get(mine, f.URL+"/device?user_code="+url.QueryEscape(`"><script>alert(1)</script>`))
	policy := shown.Header.Get("Content-Security-Policy")
	if !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") || strings.Contains(policy, "unsafe") {
		t.Errorf("policy is %q", policy)
	}
	if strings.Contains(string(shown.Body), "<script") {
		t.Error("a script came in by the user code")
	}
}

func TestBruteForce(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.person("alice", issuer.RoleViewer)
	f.person("bob", issuer.RoleViewer)
	f.clock.stop()
	try := func(name, password string) int {
		return f.fill(f.browser(), f.URL+"/device", url.Values{"user_code": {"BBBB-BBBB"}, "username": {name}, "password": {password}, "action": {"approve"}}).Status
	}
	var got []int
	for i := range 7 {
		got = append(got, try("alice", fmt.Sprint("guess ", i)))
	}
	if want := "[401 401 401 401 401 429 429]"; fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
	if got := try("alice", password); got != http.StatusTooManyRequests {
		t.Errorf("the right password gets through when wrong ones do not: %d", got)
	}
	if got := try("ALICE", "guess"); got != http.StatusTooManyRequests {
		t.Errorf("another spelling is another name: %d", got)
	}
	if got := try("bob", password); got != http.StatusNotFound { // there is no such code, but the password was right
		t.Errorf("bob is locked out with alice: %d", got)
	}
	f.clock.advance(31 * time.Second)
	if got := try("alice", password); got != http.StatusNotFound {
		t.Errorf("alice is locked out for ever: %d", got)
	}
	// Who is not there, and machines, look like a wrong password.
	for _, name := range []string{"nobody", "device-x"} {
		if got := try(name, password); got != http.StatusUnauthorized {
			t.Errorf("%s: %d", name, got)
		}
	}
	// Codes cannot be guessed by one who has a password.
	got = nil
	for range 8 {
		got = append(got, try("bob", password))
	}
	if last := got[len(got)-1]; last != http.StatusTooManyRequests {
		t.Errorf("guessing codes: %v", got)
	}
}

func TestForgedAssertions(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.person("root", issuer.RoleAdmin)
	admin := f.signIn("root").AccessToken
	a, b := f.enrol(admin, "a", machineKeys()[0]), f.enrol(admin, "b", machineKeys()[1])
	if got := f.mint(f.assertion(a, nil)); got.Status != http.StatusOK {
		t.Fatalf("the genuine one: %+v", got)
	}
	claims := func(m machine) jwt.Claims {
		return jwt.Claims{Issuer: m.id, Subject: m.id, Audience: jwt.Audience{f.URL}, IssuedAt: jwt.NewNumericDate(time.Now()), Expiry: jwt.NewNumericDate(time.Now().Add(time.Minute))}
	}
	der, err := x509.MarshalPKIXPublicKey(&a.key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	genuine := strings.Split(f.assertion(a, nil), ".")
	enc := base64.RawURLEncoding.EncodeToString
	for name, assertion := range map[string]string{
		"b's key under a's name":  sign(t, jose.RS256, b.key, a.keyID, claims(a)),
		"b's key and key id as a": sign(t, jose.RS256, b.key, b.keyID, claims(a)),
		"no key id":               sign(t, jose.RS256, a.key, "", claims(a)),
		"no signature (alg none)": enc([]byte(`{"alg":"none","kid":"`+a.keyID+`"}`)) + "." + genuine[1] + ".",
		"alg None":                enc([]byte(`{"alg":"None","kid":"`+a.keyID+`"}`)) + "." + genuine[1] + "." + genuine[2],
		"HS256, public key (DER)": sign(t, jose.HS256, der, a.keyID, claims(a)),
		"HS256, public key (PEM)": sign(t, jose.HS256, publicPEM(t, a.key), a.keyID, claims(a)),
		"edited":                  genuine[0] + "." + enc([]byte(`{"iss":"`+b.id+`","sub":"`+b.id+`","aud":"`+f.URL+`","iat":1,"exp":99999999999}`)) + "." + genuine[2],
		"for another issuer":      f.assertion(a, func(c *jwt.Claims) { c.Audience = jwt.Audience{"https://evil.example"} }),
		"expired":                 f.assertion(a, func(c *jwt.Claims) { c.Expiry = jwt.NewNumericDate(time.Now().Add(-time.Minute)) }),
		"an hour old":             f.assertion(a, func(c *jwt.Claims) { c.IssuedAt = jwt.NewNumericDate(time.Now().Add(-2 * time.Hour)) }),
		"of the future":           f.assertion(a, func(c *jwt.Claims) { c.IssuedAt = jwt.NewNumericDate(time.Now().Add(10 * time.Minute)) }),
		"for somebody else":       f.assertion(a, func(c *jwt.Claims) { c.Subject = b.id }),
		"by the name, not the id": f.assertion(machine{id: "device-a", keyID: a.keyID, key: a.key}, nil),
		"nothing":                 "",
		"not a token":             "x.y.z",
	} {
		if got := f.mint(assertion); got.Status == http.StatusOK || got.AccessToken != "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	// The issuer's own access tokens are told from forged ones too.
	parts := strings.Split(admin, ".")
	for name, token := range map[string]string{
		"alg none":     enc([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".",
		"a's key":      sign(t, jose.RS256, a.key, a.keyID, map[string]any{"iss": f.URL, "sub": "1", "exp": time.Now().Add(time.Hour).Unix(), "aud": f.ProjectID}),
		"cut":          admin[:len(admin)-4],
		"a's own mint": f.mint(f.assertion(a, nil)).AccessToken,
	} {
		if status, _ := f.call(token, "POST", "/users/_search", map[string]any{}); status != http.StatusUnauthorized && status != http.StatusForbidden {
			t.Errorf("%s manages: %d", name, status)
		}
	}
}

// What is in a URL ends in somebody's log.
func TestSecretsInURLs(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.person("root", issuer.RoleAdmin)
	token := f.signIn("root").RefreshToken
	query := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}, "client_id": {f.CLIClientID}}
	for name, res := range map[string]response{
		"by GET":  f.get(f.http, f.URL+"/oauth/token?"+query.Encode()),
		"by POST": f.post(f.http, f.URL+"/oauth/token?"+query.Encode(), nil),
		"revoked": f.get(f.http, f.URL+"/revoke?token="+token+"&client_id="+f.CLIClientID),
	} {
		if res.Status != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d %s", name, res.Status, res.Body)
		}
	}
	if got := f.refresh(token); got.Status != http.StatusOK {
		t.Errorf("a refused request used the token up: %+v", got)
	}
}

// Whoever may begin without a password cannot fill the database.
func TestFlood(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.clock.stop()
	accepted := 0
	for range 100 {
		if f.post(f.http, f.URL+"/device_authorization", url.Values{"client_id": {f.CLIClientID}}).Status == http.StatusOK {
			accepted++
		}
	}
	if accepted != 60 {
		t.Errorf("%d device codes at once, want 60", accepted)
	}
	f.clock.advance(10 * time.Second)
	if status := f.post(f.http, f.URL+"/device_authorization", url.Values{"client_id": {f.CLIClientID}}).Status; status != http.StatusOK {
		t.Errorf("later: %d", status)
	}
}

// The whole database holds nothing that a thief could sign in with.
func TestSecretsAreHashed(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.person("root", issuer.RoleAdmin)
	token := f.signIn("root")
	code, _ := f.code("root")
	f.stop() // checkpoints the WAL
	for name, secret := range map[string]string{"password": password, "refresh token": token.RefreshToken, "access token": token.AccessToken, "code": code} {
		if strings.Contains(read(t, filepath.Join(f.dir, "issuer", "issuer.db")), secret) {
			t.Errorf("the database has the %s in clear", name)
		}
	}
}

// atOnce counts how many of n that run at the same time say true.
func atOnce(n int, try func() bool) int {
	var wg sync.WaitGroup
	var mu sync.Mutex
	count := 0
	for range n {
		wg.Go(func() {
			if try() {
				mu.Lock()
				defer mu.Unlock()
				count++
			}
		})
	}
	wg.Wait()
	return count
}
