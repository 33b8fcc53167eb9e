package dashboard

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/dashboard/fleet"
	"github.com/nationtech/fleetctl/internal/dashboard/session"
	"github.com/nationtech/fleetctl/internal/identity/role"
	"github.com/nationtech/fleetctl/internal/identity/verify"
	"github.com/nationtech/fleetctl/internal/issuer"
	"github.com/nationtech/fleetctl/internal/issuer/store"
	"github.com/nationtech/fleetctl/internal/pki"
)

const password = "correct horse battery staple"

// fixture is a dashboard with a real issuer, over TLS; its fleet is put into
// the store by the test, and the API behind it is the test's.
type fixture struct {
	*Dashboard
	t      testing.TB
	url    string
	issuer *issuer.Issuer
	db     *store.Store
	tls    *tls.Config
	clock  *clock
	kube   client.Client
}

// clock is the sessions'; a test sets it ahead.
type clock struct{ ahead time.Duration }

func (c *clock) now() time.Time { return time.Now().Add(c.ahead) }

// start serves a dashboard at address, which may have the port 0.
func start(t testing.TB, address string, api http.Handler) *fixture {
	t.Helper()
	dir := t.TempDir()
	ca := must(pki.Open(filepath.Join(dir, "pki")))(t)
	listener := must(net.Listen("tcp", address))(t)
	f := &fixture{t: t, url: "https://" + listener.Addr().String(), clock: &clock{},
		tls: &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12}}
	log := slog.New(slog.DiscardHandler)
	issuerListener := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	cert := must(ca.ServerCert("test", []string{"127.0.0.1"}))(t)
	f.issuer = must(issuer.Start(t.Context(), issuer.Config{Dir: filepath.Join(dir, "issuer"), URL: "https://" + issuerListener.Addr().String(),
		Listener: issuerListener, TLS: cert.TLSConfig(), Log: log}))(t)
	f.db = must(store.Open(t.Context(), filepath.Join(dir, "issuer"), time.Now))(t)
	issuerClient := &http.Client{Transport: &http.Transport{TLSClientConfig: f.tls.Clone()}}
	t.Cleanup(func() {
		issuerClient.CloseIdleConnections()
		if err := f.issuer.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := f.db.Close(); err != nil {
			t.Error(err)
		}
	})
	for name, r := range map[string][]string{"ada": {role.Admin}, "otto": {role.Operator}, "vera": {role.Viewer}, "nobody": nil} {
		must(issuer.AddPerson(t.Context(), f.db, f.issuer.ProjectID, issuer.NewPerson{Username: name, Password: password, Roles: r}))(t)
	}
	if err := f.issuer.SetDashboard(t.Context(), []string{f.url + session.CallbackPath}, nil); err != nil {
		t.Fatal(err)
	}
	verifier := func(audience string) *verify.Verifier {
		return verify.New(t.Context(), verify.Config{Issuer: f.issuer.URL, Audiences: []string{audience}, HTTPClient: issuerClient})
	}
	sessions := must(session.NewManager(session.Config{
		Keys: [][]byte{make([]byte, session.KeyBytes)}, Origins: []string{f.url}, Issuer: f.issuer.URL, ClientID: f.issuer.DashboardClientID,
		Scopes:     []string{"openid", "profile", "offline_access", "urn:zitadel:iam:org:projects:roles"},
		HTTPClient: issuerClient, Access: verifier(f.issuer.ProjectID), ID: verifier(f.issuer.DashboardClientID), Log: log, Now: f.clock.now,
	}))(t)
	f.Dashboard = must(newDashboard(Config{Audit: noAudit{}, Sessions: sessions, ServerURL: f.url, Version: "test", Log: log}, fleet.NewStore()))(t)
	f.kubeAs = func(*session.Session) (client.Client, error) { return f.kube, nil }
	f.kube = playedKube(t)
	close(f.synced)
	server := &http.Server{Handler: f.Handler(api), TLSConfig: cert.TLSConfig(), ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	go func() { _ = server.ServeTLS(listener, "", "") }()
	t.Cleanup(func() {
		f.Stop()
		_ = server.Close()
	})
	return f
}

// browser is a client with cookies that follows no redirect.
func (f *fixture) browser() *http.Client {
	jar := must(cookiejar.New(nil))(f.t)
	client := &http.Client{Jar: jar, Transport: &http.Transport{TLSClientConfig: f.tls.Clone(), ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	f.t.Cleanup(client.CloseIdleConnections)
	return client
}

// signedIn is a browser in which somebody signed in.
func (f *fixture) signedIn(name string) *http.Client {
	f.t.Helper()
	b := f.browser()
	form := f.follow(b, f.url+"/auth/signin")
	fields := url.Values{"username": {name}, "password": {password}}
	for _, hidden := range regexp.MustCompile(`name="(token|id)" value="([^"]*)"`).FindAllStringSubmatch(form.body, -1) {
		fields.Set(hidden[1], hidden[2])
	}
	resp := must(b.PostForm(f.issuer.URL+"/login", fields))(f.t)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusSeeOther {
		f.t.Fatalf("the issuer answers %s", resp.Status)
	}
	at := must(resp.Request.URL.Parse(resp.Header.Get("Location")))(f.t)
	if page := f.follow(b, at.String()); page.status != http.StatusOK && page.status != http.StatusForbidden {
		f.t.Fatalf("after sign-in: %d %s", page.status, page.body)
	}
	return b
}

type answer struct {
	status int
	header http.Header
	body   string
}

// follow gets a page over redirects.
func (f *fixture) follow(b *http.Client, at string) answer {
	f.t.Helper()
	for range 10 {
		a := f.get(b, at, nil)
		if a.status/100 != 3 {
			return a
		}
		at = must(must(url.Parse(at))(f.t).Parse(a.header.Get("Location")))(f.t).String()
	}
	f.t.Fatal("too many redirects")
	return answer{}
}

func (f *fixture) get(b *http.Client, at string, header map[string]string) answer {
	f.t.Helper()
	if strings.HasPrefix(at, "/") {
		at = f.url + at
	}
	req := must(http.NewRequestWithContext(f.t.Context(), http.MethodGet, at, nil))(f.t)
	return f.do(b, req, header)
}

func (f *fixture) post(b *http.Client, path string, form url.Values, header map[string]string) answer {
	f.t.Helper()
	req := must(http.NewRequestWithContext(f.t.Context(), http.MethodPost, f.url+path, strings.NewReader(form.Encode())))(f.t)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return f.do(b, req, header)
}

func (f *fixture) do(b *http.Client, req *http.Request, header map[string]string) answer {
	f.t.Helper()
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp := must(b.Do(req))(f.t)
	defer resp.Body.Close()
	return answer{resp.StatusCode, resp.Header, string(must(io.ReadAll(resp.Body))(f.t))}
}

// formToken is the token in a page's forms.
func (f *fixture) formToken(b *http.Client) string {
	f.t.Helper()
	page := f.get(b, "/devices", nil)
	found := regexp.MustCompile(`name="token" value="([^"]+)"`).FindStringSubmatch(page.body)
	if found == nil {
		f.t.Fatalf("no form token: %d", page.status)
	}
	return found[1]
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// sessionCookie is the browser's session; the issuer's cookies are of the same
// host.
func (f *fixture) sessionCookie(b *http.Client) *http.Cookie {
	f.t.Helper()
	for _, c := range b.Jar.Cookies(must(url.Parse(f.url))(f.t)) {
		if c.Name == "__Host-fleet-session" {
			return c
		}
	}
	f.t.Fatal("no session")
	return nil
}
