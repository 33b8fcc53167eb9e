package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/identity/session"
	"github.com/nationtech/fleetctl/internal/identity/trust"
)

const personsPassword = "correct horse battery staple"

// laptop is a person's: fleetctl, its configuration directory, and a browser.
type laptop struct {
	t      *testing.T
	binary string
	config string       // XDG_CONFIG_HOME
	http   *http.Client // the browser's; it trusts the issuer
}

func newLaptop(t *testing.T, binary string, caPEM []byte) laptop {
	t.Helper()
	return laptop{t: t, binary: binary, config: t.TempDir(), http: must(trust.Client(caPEM))(t)}
}

func (l *laptop) kubeconfig() string { return filepath.Join(l.config, "kubeconfig") }

// fleetctl is a process of its own on this laptol.
func (l *laptop) fleetctl(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(l.t.Context(), l.binary, args...)
	cmd.Args[0] = "fleetctl" // see TestMain
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+l.config, "XDG_DATA_HOME="+l.config, "KUBECONFIG="+l.kubeconfig(),
		"FLEETCTL_CONTEXT=", "FLEETCTL_SERVER_DIR=", "DISPLAY=", "WAYLAND_DISPLAY=")
	return cmd
}

// run gives what a command printed, and its exit code.
func (l *laptop) run(args ...string) (stdout, stderr string, code int) {
	l.t.Helper()
	cmd := l.fleetctl(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		l.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// login runs `fleetctl login` and has a person decide about its code; it gives
// the last event.
func (l *laptop) login(name, action string, args ...string) (signInEvent, string, int) {
	l.t.Helper()
	cmd := l.fleetctl(append([]string{"login", "-o", "json"}, args...)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out := must(cmd.StdoutPipe())(l.t)
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	var code codeEvent
	if line, err := lines.ReadBytes('\n'); err == nil {
		if err := json.Unmarshal(line, &code); err != nil || code.Event != "code" {
			l.t.Fatalf("the first event is %q: %v", line, err)
		}
		l.decide(code, name, action)
	}
	rest := must(io.ReadAll(lines))(l.t)
	if err := cmd.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		l.t.Fatal(err)
	}
	var done signInEvent
	if len(rest) > 0 {
		if err := json.Unmarshal(rest, &done); err != nil || done.Event != "signedIn" {
			l.t.Fatalf("the last event is %q: %v", rest, err)
		}
	}
	return done, errs.String(), cmd.ProcessState.ExitCode()
}

var formToken = regexp.MustCompile(`name="token" value="([^"]*)"`)

// decide is what a person does in a browser.
func (l *laptop) decide(code codeEvent, name, action string) {
	l.t.Helper()
	browser := &http.Client{Jar: must(cookiejar.New(nil))(l.t), Transport: l.http.Transport, Timeout: 30 * time.Second}
	read := func(resp *http.Response, err error) []byte {
		l.t.Helper()
		if err != nil {
			l.t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			l.t.Fatalf("%s: %s, %v\n%s", resp.Request.URL, resp.Status, err, body)
		}
		return body
	}
	match := formToken.FindSubmatch(read(browser.Get(code.CompleteURL))) //nolint:bodyclose // read closes it
	if match == nil {
		l.t.Fatal("the page has no form")
	}
	read(browser.PostForm(code.URL, url.Values{"token": {string(match[1])}, "user_code": {code.UserCode}, //nolint:bodyclose // read closes it
		"username": {name}, "password": {personsPassword}, "action": {action}}))
}

// age makes the session of a context look as old as that.
func (l *laptop) age(context string, by time.Duration) session.Session {
	l.t.Helper()
	path := filepath.Join(l.config, "fleetctl", "sessions", context+".json")
	var s session.Session
	if err := json.Unmarshal(must(os.ReadFile(path))(l.t), &s); err != nil {
		l.t.Fatal(err)
	}
	s.Expiry, s.Obtained = s.Expiry.Add(-by), s.Obtained.Add(-by)
	l.write(context, s)
	return s
}

// write puts a session in the place of the one that is there.
func (l *laptop) write(context string, s session.Session) {
	l.t.Helper()
	if err := os.WriteFile(filepath.Join(l.config, "fleetctl", "sessions", context+".json"), must(json.Marshal(s))(l.t), 0o600); err != nil {
		l.t.Fatal(err)
	}
}
