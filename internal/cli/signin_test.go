package cli

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/identity/oidcclient"
	"github.com/nationtech/fleetctl/internal/identity/session"
	"github.com/nationtech/fleetctl/internal/issuer"
	"github.com/nationtech/fleetctl/internal/pki"
)

// people is a real issuer, and a laptop.
type people struct {
	*issuer.Issuer
	laptop
	caFile string
}

// newPeople starts an issuer with a user of each role.
func newPeople(t *testing.T) *people {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ca := must(pki.Open(filepath.Join(dir, "pki")))(t)
	cert := must(ca.ServerCert("issuer", []string{"127.0.0.1"}))(t)
	listener := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	p := &people{laptop: newLaptop(t, os.Args[0], ca.PEM()), caFile: ca.Path()}
	p.Issuer = must(issuer.Start(t.Context(), issuer.Config{
		Dir: filepath.Join(dir, "issuer"), URL: "https://" + listener.Addr().String(), Listener: listener,
		TLS: cert.TLSConfig(), Log: slog.New(slog.DiscardHandler),
	}))(t)
	t.Cleanup(func() {
		p.http.CloseIdleConnections()
		if err := p.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	users := must(issuer.OpenPeople(t.Context(), filepath.Join(dir, "issuer")))(t)
	defer users.Close()
	for name, role := range map[string]string{"alice": issuer.RoleOperator, "victor": issuer.RoleViewer} {
		must(users.Add(t.Context(), issuer.NewPerson{Username: name, Name: strings.ToUpper(name[:1]) + name[1:], Password: personsPassword, Roles: []string{role}}))(t)
	}
	return p
}

// login signs in at the issuer.
func (p *people) login(name, action string, args ...string) (signInEvent, string, int) {
	p.t.Helper()
	return p.laptop.login(name, action, append([]string{"--issuer", p.URL, "--client-id", p.CLIClientID, "--project-id", p.ProjectID, "--ca-file", p.caFile}, args...)...)
}

// TestSignIn follows a person through a session.
func TestSignIn(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	done, stderr, code := p.login("alice", "approve", "--context", "home")
	if code != 0 || done.Greeting != "Alice" || done.User.Username != "alice" || strings.Join(done.Roles, ",") != issuer.RoleOperator || !done.Renewable {
		t.Fatalf("exit code %d, %+v\n%s", code, done, stderr)
	}
	for path, mode := range map[string]os.FileMode{"sessions": 0o700, "sessions/home.json": 0o600, "contexts.json": 0o600} {
		if info, err := os.Stat(filepath.Join(p.config, "fleetctl", path)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	out, _, code := p.run("whoami")
	if code != 0 || !strings.Contains(out, "Alice (alice)") || !strings.Contains(out, issuer.RoleOperator) {
		t.Errorf("whoami: exit code %d\n%s", code, out)
	}
	first, _, _ := p.run("token", "--plain")
	if again, _, _ := p.run("token", "--plain"); first == "" || again != first {
		t.Error("a token that is good was renewed")
	}

	// Many at once use the one refresh token once.
	old := p.age("home", 15*time.Minute)
	var wg sync.WaitGroup
	tokens := make([]string, 8)
	for i := range tokens {
		wg.Go(func() { tokens[i], _, _ = p.run("token", "--plain") })
	}
	wg.Wait()
	for _, token := range tokens {
		if token == "" || token == first || token != tokens[0] {
			t.Fatalf("after the token's end: %q, all the same and new is wanted", tokens)
		}
	}
	if now := p.age("home", 15*time.Minute); now.Refresh == old.Refresh {
		t.Error("the refresh token was not replaced")
	}
	if renewed, stderr, code := p.run("token", "--plain"); code != 0 || renewed == tokens[0] {
		t.Errorf("the session did not go on: exit code %d\n%s", code, stderr)
	}

	// A second use of a refresh token ends it, here with a hint.
	stolen := p.age("home", 15*time.Minute)
	stolen.Refresh = old.Refresh
	p.write("home", stolen)
	for range 2 {
		if _, stderr, code := p.run("token"); code != hint.CodeAuth || !strings.Contains(stderr, "hint: sign in again with: fleetctl login --context home") {
			t.Errorf("a session that is over: exit code %d\n%s", code, stderr)
		}
	}

	if _, stderr, code := p.login("victor", "approve", "--context", "home"); code != 0 {
		t.Fatalf("sign in again: exit code %d\n%s", code, stderr)
	}
	s := p.age("home", 0)
	for _, want := range []string{`"changed": true`, `"changed": false`} {
		if out, stderr, code := p.run("logout", "-o", "json"); code != 0 || !strings.Contains(out, want) {
			t.Errorf("logout: exit code %d, %s%s", code, out, stderr)
		}
	}
	if _, err := os.Stat(filepath.Join(p.config, "fleetctl", "sessions", "home.json")); err == nil {
		t.Error("the session outlived the logout")
	}
	issuer := must(discover(t.Context(), session.Context{Issuer: p.URL, ClientID: p.CLIClientID, CAPEM: string(must(os.ReadFile(p.caFile))(t))}))(t)
	if _, err := issuer.Refresh(t.Context(), s.Refresh); hint.Code(err) != hint.CodeAuth {
		t.Errorf("the refresh token outlived the logout: %v", err)
	}
	if _, stderr, code := p.run("whoami"); code != hint.CodeAuth || !strings.Contains(stderr, "hint: sign in with: fleetctl login --context home") {
		t.Errorf("whoami after logout: exit code %d\n%s", code, stderr)
	}
}

// TestSignInRefused: each way in which a sign-in fails, says what to do, and
// leaves nothing behind.
func TestSignInRefused(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	stranger := newStranger(t)
	base := []string{"login", "--ca-file", p.caFile, "--client-id", p.CLIClientID, "--issuer"}
	for name, tt := range map[string]struct {
		args       []string
		code       int
		says, hint string
	}{
		"wrong client id":   {[]string{"login", "--ca-file", p.caFile, "--issuer", p.URL, "--client-id", "fleetctl"}, hint.CodeAuth, `does not let client "fleetctl" sign in`, "not its name"},
		"no client id":      {[]string{"login", "--issuer", p.URL}, hint.CodeUsage, "--issuer needs --client-id", "--client-id"},
		"unreachable":       {append(base, "https://127.0.0.1:1"), hint.CodeUnreachable, "connection refused", "check the network"},
		"no issuer":         {append(base, stranger.url, "--ca-file", stranger.caFile), hint.CodeFailed, "is no OpenID Connect issuer", "/.well-known/openid-configuration"},
		"another issuer":    {append(base, strings.Replace(p.URL, "127.0.0.1", "localhost", 1)), hint.CodeAuth, "certificate is not valid for any names|not localhost", "a name that the certificate is for"},
		"its name is other": {append(base, p.URL+"/"), hint.CodeFailed, "is no OpenID Connect issuer of that name", p.URL + "/"},
		"self-signed":       {[]string{"login", "--issuer", p.URL, "--client-id", p.CLIClientID}, hint.CodeAuth, "certificate signed by unknown authority", "--ca-file FILE"},
		"plain http":        {append(base, "http://127.0.0.1:1"), hint.CodeUsage, "not an https URL", "https://"},
		"no such CA file":   {append(base, p.URL, "--ca-file", "/nowhere/ca.crt"), hint.CodeUsage, "no such file", "--ca-file"},
		"CA file of else":   {append(base, p.URL, "--ca-file", os.Args[0]), hint.CodeUsage, "no certificate", "PEM"},
		"nowhere":           {[]string{"login"}, hint.CodeUsage, "no control plane to sign in to", "--server"},
		"two planes":        {[]string{"login", "--context", "a", "--server-dir", "b"}, hint.CodeUsage, "two control planes", "leave one"},
		"bad context name":  {[]string{"login", "--context", "../x"}, hint.CodeUsage, "no name for a context", "letters"},
	} {
		t.Run(name, func(t *testing.T) {
			out, stderr, code := p.run(tt.args...)
			if code != tt.code || out != "" || !regexp.MustCompile(tt.says).MatchString(stderr) || !regexp.MustCompile(`(?m)^hint: .*`+regexp.QuoteMeta(tt.hint)).MatchString(stderr) {
				t.Errorf("exit code %d, want %d; said %q\n%s", code, tt.code, out, stderr)
			}
		})
	}
	if _, stderr, code := p.login("alice", "deny"); code != hint.CodeAuth || !strings.Contains(stderr, "it was denied") {
		t.Errorf("denied: exit code %d\n%s", code, stderr)
	}
	if out, _, _ := p.run("context", "list", "-o", "json"); !strings.Contains(out, `"contexts": []`) {
		t.Errorf("a failed sign-in left a context: %s", out)
	}
}

// TestSignInWithWrongClock: an ID token that seems to be from the future, or too
// old, names the clock and by how much it is off.
func TestSignInWithWrongClock(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	for ahead, says := range map[time.Duration]string{-10 * time.Minute: `clock is (9m5|10m)\d*s behind`, 2 * time.Hour: `clock is (1h59m5|2h0m)\d*s ahead`, time.Minute: ""} {
		provider := must(oidcclient.Discover(t.Context(), oidcclient.Config{Issuer: p.URL, ClientID: p.CLIClientID, HTTPClient: p.http,
			Now: func() time.Time { return time.Now().Add(ahead) }}))(t)
		code := must(provider.Begin(t.Context()))(t)
		p.decide(codeEvent{URL: code.URL, CompleteURL: code.CompleteURL, UserCode: code.UserCode}, "alice", "approve")
		_, err := provider.Wait(t.Context(), code)
		if says == "" && err == nil {
			continue
		}
		if err == nil || !regexp.MustCompile(says).MatchString(err.Error()) ||
			hint.Code(err) != hint.CodeAuth || !strings.Contains(hint.Of(err), "set the clock") {
			t.Errorf("%s ahead: %v; hint: %s", ahead, err, hint.Of(err))
		}
	}
}

// TestSignInInterrupted: ctrl-C while a person is waited for.
func TestSignInInterrupted(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	cmd := p.fleetctl("login", "-o", "json", "--issuer", p.URL, "--client-id", p.CLIClientID, "--ca-file", p.caFile)
	out := must(cmd.StdoutPipe())(t)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != hint.CodeInterrupted {
		t.Errorf("%v", err)
	}
}

// stranger speaks TLS, and is no issuer.
type stranger struct{ url, caFile string }

func newStranger(t *testing.T) stranger {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ca := must(pki.Open(dir))(t)
	cert := must(ca.ServerCert("web", []string{"127.0.0.1"}))(t)
	listener := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	server := &http.Server{TLSConfig: cert.TLSConfig(), ReadHeaderTimeout: 30 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>It works!</html>") })}
	go func() { _ = server.ServeTLS(listener, "", "") }()
	t.Cleanup(func() { _ = server.Close() })
	return stranger{"https://" + listener.Addr().String(), ca.Path()}
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
