package systemtest

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Devices and laptops reach a server by names that it does not have itself.
func TestAdvertisedNames(t *testing.T) {
	dir := dataDir(t)
	p := start(t, dir, "--listen-address", "0.0.0.0", "--advertise", "fleet.test.example.com", "--advertise", "127.0.0.2")
	for name, raw := range map[string]string{"Kubernetes": p.ready.KubernetesURL, "NATS": p.ready.NATSURL, "API": p.ready.APIURL} {
		if u := parse(t, raw); u.Hostname() != "fleet.test.example.com" {
			t.Errorf("the URL of %s is %s", name, raw)
		}
	}
	for _, raw := range []string{p.ready.KubernetesURL, p.ready.APIURL} {
		for _, name := range []string{"fleet.test.example.com", "127.0.0.2", "localhost", "::1"} {
			handshake(t, p, "127.0.0.2:"+parse(t, raw).Port(), name)
		}
	}
	// NATS begins in clear text and then asks for TLS; its client knows how.
	nc, err := nats.Connect("tls://127.0.0.2:"+parse(t, p.ready.NATSURL).Port(), nats.RootCAs(p.ready.CAFile), nats.UserInfo("nobody", "knows"))
	if err == nil {
		nc.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "Authorization Violation") {
		t.Errorf("an unknown device at NATS: %v, want a refusal after the TLS handshake", err)
	}
	// The administrator of this machine depends on nobody's DNS.
	if _, err := client(t, p).CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Errorf("the kubeconfig on this machine: %v", err)
	}
	ca := read(t, p.ready.CAFile)
	p.stopCleanly()

	moved := start(t, dir, "--listen-address", "0.0.0.0", "--advertise", "moved.example.com")
	handshake(t, moved, "127.0.0.1:"+parse(t, moved.ready.APIURL).Port(), "moved.example.com")
	if read(t, moved.ready.CAFile) != ca {
		t.Error("a new name made a new CA: every device is locked out")
	}
	moved.stopCleanly()
}

// handshake wants the server at addr to be name, says its CA, and to speak
// nothing older than TLS 1.2.
func handshake(t *testing.T, p *process, addr, name string) {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(read(t, p.ready.CAFile)))
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	conn, err := tls.DialWithDialer(dialer, "tcp", addr, &tls.Config{RootCAs: pool, ServerName: name})
	if err != nil {
		t.Errorf("%s as %s: %v", addr, name, err)
		return
	}
	_ = conn.Close()
	old := &tls.Config{RootCAs: pool, ServerName: name, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	if conn, err := tls.DialWithDialer(dialer, "tcp", addr, old); err == nil {
		_ = conn.Close()
		t.Errorf("%s speaks TLS 1.1", addr)
	}
}

// What was started before a part failed is stopped again, and the error says
// which part it was.
func TestPartThatCannotStart(t *testing.T) {
	dir := dataDir(t)
	p := start(t, dir)
	p.stopCleanly()

	for name, c := range map[string]struct {
		breakIt func(t *testing.T) (undo func())
		want    string
	}{
		"NATS port": {func(t *testing.T) func() {
			l, err := net.Listen("tcp", parse(t, p.ready.NATSURL).Host)
			if err != nil {
				t.Fatal(err)
			}
			return func() { _ = l.Close() }
		}, "start NATS: port " + parse(t, p.ready.NATSURL).Port() + " of NATS is taken"},
		"signing key": {damage(filepath.Join(dir, "signing", "signing.key")), "start keys and certificates: load signing key"},
		"admin token": {damage(filepath.Join(dir, "admin-token")), "start HTTPS API: load admin token"},
	} {
		t.Run(name, func(t *testing.T) {
			undo := c.breakIt(t)
			defer undo()
			failed := launch(t, dir, nil)
			if code := failed.wait(); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			if text := failed.stderr.String(); !strings.Contains(text, "error: "+c.want) {
				t.Errorf("no %q in:\n%s", c.want, text)
			}
			if left := leftSockets(t, dir); len(left) > 0 {
				t.Errorf("sockets left behind: %q", left)
			}
			if _, err := os.Stat(filepath.Join(dir, "endpoints.json")); err == nil {
				t.Error("endpoints.json says that it runs")
			}
		})
	}
	again := start(t, dir)
	if got, want := fmt.Sprint(again.ready.KubernetesURL, again.ready.NATSURL, again.ready.APIURL),
		fmt.Sprint(p.ready.KubernetesURL, p.ready.NATSURL, p.ready.APIURL); got != want {
		t.Errorf("addresses are %s, were %s", got, want)
	}
	again.stopCleanly()
}

// damage cuts a file in half.
func damage(path string) func(*testing.T) func() {
	return func(t *testing.T) func() {
		whole := read(t, path)
		write := func(data string) {
			if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
				t.Error(err)
			}
		}
		write(whole[:len(whole)/2])
		return func() { write(whole) }
	}
}

func TestAPIWantsTheToken(t *testing.T) {
	p := start(t, dataDir(t))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(read(t, p.ready.CAFile)))
	anonymous := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer anonymous.CloseIdleConnections()
	for path, want := range map[string]int{"/healthz": http.StatusOK, "/readyz": http.StatusOK, "/v1/devices/pi-1": http.StatusUnauthorized} {
		resp, err := anonymous.Get(p.ready.APIURL + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s answers %d, want %d", path, resp.StatusCode, want)
		}
	}
	p.stopCleanly()
}

func parse(t *testing.T, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil || u.Port() == "" {
		t.Fatalf("%q is no URL with a port: %v", raw, err)
	}
	return u
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
