package systemtest

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

var formToken = regexp.MustCompile(`name="token" value="([^"]*)"`)

// The server's own issuer with its real certificate: a person is added while it
// runs, signs in without a browser as docs/issuer.md says, and is known after a
// restart.
func TestIssuer(t *testing.T) {
	dir := dataDir(t)
	p := start(t, dir)
	info, err := os.Stat(p.ready.AdminPasswordFile)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("first password: %v, %v", info, err)
	}
	first := strings.TrimSpace(read(t, p.ready.AdminPasswordFile))
	users := func(stdin string, args ...string) string {
		t.Helper()
		path, err := binary()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), path, append(append([]string{"users"}, args...), "--data-dir", dir)...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("users %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	users("a long enough password\n", "add", "demo", "--role", "fleet-operator")
	if list := users("", "list"); !strings.Contains(list, "demo") || !strings.Contains(list, "fleet-operator") {
		t.Errorf("users are\n%s", list)
	}
	signIn(t, p, "demo", "a long enough password")
	signIn(t, p, "admin", first)
	users("another long password\n", "passwd", "admin")
	if _, err := os.Stat(p.ready.AdminPasswordFile); err == nil {
		t.Error("the first password's file outlived it")
	}
	p.stopCleanly()
	for name, text := range map[string]string{"stderr": p.stderr.String(), "log": read(t, p.ready.LogFile)} {
		if strings.Contains(text, first) {
			t.Errorf("the first password is in %s", name)
		}
	}
	again := start(t, dir)
	if again.ready.Issuer != p.ready.Issuer || again.ready.CLIClientID != p.ready.CLIClientID || again.ready.ProjectID != p.ready.ProjectID {
		t.Errorf("was %+v, is %+v", p.ready, again.ready)
	}
	signIn(t, again, "admin", "another long password")
	users("", "delete", "demo")
	again.stopCleanly()
}

// signIn is the device flow by form posts alone.
func signIn(t *testing.T, p *process, name, password string) (accessToken string) {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(read(t, p.ready.CAFile)))
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &http.Client{Jar: jar, Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer c.CloseIdleConnections()
	do := func(res *http.Response, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s %s, %v", res.Request.URL.Path, res.Status, body, err)
		}
		return body
	}
	var code struct {
		Device string `json:"device_code"`
		User   string `json:"user_code"`
		URI    string `json:"verification_uri"`
	}
	body := do(c.PostForm(p.ready.Issuer+"/device_authorization", url.Values{"client_id": {p.ready.CLIClientID}, "scope": {"openid urn:zitadel:iam:org:projects:roles"}})) //nolint:bodyclose // do closes it
	if err := json.Unmarshal(body, &code); err != nil {
		t.Fatal(err)
	}
	match := formToken.FindSubmatch(do(c.Get(code.URI))) //nolint:bodyclose // do closes it
	if match == nil {
		t.Fatal("the page has no form")
	}
	do(c.PostForm(code.URI, url.Values{"token": {string(match[1])}, "user_code": {code.User}, "username": {name}, "password": {password}, "action": {"approve"}})) //nolint:bodyclose // do closes it
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	body = do(c.PostForm(p.ready.Issuer+"/oauth/token", url.Values{ //nolint:bodyclose // do closes it
		"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {code.Device}, "client_id": {p.ready.CLIClientID},
	}))
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatal(err)
	}
	return answer.AccessToken
}
