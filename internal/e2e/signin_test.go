//go:build hosts || vm

package e2e

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
	"github.com/nationtech/fleetctl/internal/testhost"
)

const (
	adminUser     = "ada"
	adminPassword = "correct horse battery staple"
)

// signIn makes a user with the administrator's role and signs in as fleetctl
// does, the browser's part played by requests. Commands after that use the
// session.
func (c *controlPlane) signIn(t testing.TB) {
	t.Helper()
	c.addUser(t, adminUser, "fleet-admin")
	cmd := exec.CommandContext(t.Context(), program(t, "fleetctl"), "login", "--no-browser", "--no-kubeconfig", "-o", "json")
	cmd.Env = c.env()
	c.approved(t, cmd, adminUser)
}

func (c *controlPlane) addUser(t testing.TB, name string, roles ...string) {
	t.Helper()
	args := []string{"users", "add", name, "--data-dir", c.dir}
	for _, r := range roles {
		args = append(args, "--role", r)
	}
	add := exec.CommandContext(t.Context(), program(t, "fleet-server"), args...)
	add.Stdin = strings.NewReader(adminPassword)
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("add user %s: %v\n%s", name, err, out)
	}
}

// approved runs a command that shows a code, in JSON, and approves that in the
// name of a user.
func (c *controlPlane) approved(t testing.TB, cmd *exec.Cmd, user string) {
	t.Helper()
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	first, err := lines.ReadString('\n')
	var code struct{ URL, UserCode string }
	if err != nil || json.Unmarshal([]byte(first), &code) != nil || code.UserCode == "" {
		_ = cmd.Wait()
		t.Fatalf("no code was shown (%v):\n%s%s", err, first, complaints.String())
	}
	c.approve(t, code.URL, code.UserCode, user)
	rest, _ := io.ReadAll(lines)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd, err, rest, complaints.String())
	}
}

// approvedOnHost runs a command on a host that shows a code there, approves that,
// and gives all that was printed.
func (c *controlPlane) approvedOnHost(t testing.TB, h *testhost.Host, command string) string {
	t.Helper()
	const log = "/run/approved.log"
	h.Sh(t, "rm -f "+log)
	done := make(chan error, 1)
	go func() {
		out, err := h.Run(t.Context(), "("+command+") >"+log+" 2>&1 </dev/null")
		if err == nil && out.ExitCode != 0 {
			err = fmt.Errorf("exit code %d", out.ExitCode)
		}
		done <- err
	}()
	var code string
	eventually(t, 30*time.Second, "a code", func() error {
		printed := h.Sh(t, "cat "+log+" 2>/dev/null || true")
		match := shownCode.FindStringSubmatch(printed)
		if match == nil {
			return fmt.Errorf("printed %q", printed)
		}
		code = match[1]
		return nil
	})
	c.approve(t, c.endpoint(t, "issuer")+"/device", code, adminUser)
	err := <-done
	out := h.Sh(t, "cat "+log)
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return out
}

var shownCode = regexp.MustCompile(`enter the code +([A-Z-]+)`)

var formToken = regexp.MustCompile(`name="token" value="([^"]*)"`)

// approve does what a person does in a browser.
func (c *controlPlane) approve(t testing.TB, page, userCode, user string) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.roots(t)}}}
	read := func(r *http.Response, err error) (int, string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(body)
	}
	status, body := read(browser.Get(page))
	match := formToken.FindStringSubmatch(body)
	if status != http.StatusOK || match == nil {
		t.Fatalf("GET %s: %d, no form\n%s", page, status, body)
	}
	if status, body = read(browser.PostForm(page, url.Values{"token": {match[1]}, "user_code": {userCode}, "action": {"approve"},
		"username": {user}, "password": {adminPassword}})); status != http.StatusOK {
		t.Fatalf("approve: %d\n%s", status, body)
	}
}

func (c *controlPlane) roots(t testing.TB) *x509.CertPool {
	t.Helper()
	pem, err := os.ReadFile(filepath.Join(c.dir, "pki", "ca.crt"))
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(pem) {
		t.Fatal(fmt.Errorf("read the server's CA: %w", err))
	}
	return pool
}

// env is what fleetctl runs with.
func (c *controlPlane) env() []string {
	return append(os.Environ(), "FLEETCTL_SERVER_DIR="+c.dir, "XDG_CONFIG_HOME="+c.configDir, "SSH_AUTH_SOCK=")
}

// endpoint is a field of the server's endpoints.json.
func (c *controlPlane) endpoint(t testing.TB, field string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(c.dir, "endpoints.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	value, _ := all[field].(string)
	if value == "" {
		t.Fatalf("endpoints.json has no %s", field)
	}
	return value
}

// api is the server's HTTPS API, as its first administrator.
func (c *controlPlane) api(t testing.TB) *apiclient.Client {
	t.Helper()
	var files [2][]byte
	for i, field := range []string{"caFile", "adminTokenFile"} {
		var err error
		if files[i], err = os.ReadFile(c.endpoint(t, field)); err != nil {
			t.Fatal(err)
		}
	}
	client, err := apiclient.New(c.endpoint(t, "apiURL"), files[0], string(files[1]))
	if err != nil {
		t.Fatal(err)
	}
	return client
}
