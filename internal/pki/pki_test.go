package pki

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
)

func TestServerCertWorksOverTLS(t *testing.T) {
	ca := mustOpen(t, t.TempDir(), time.Now)
	cert := mustCert(t, ca, "localhost", "127.0.0.1", "::1")
	for _, host := range []string{"localhost", "127.0.0.1", "::1"} {
		if err := dial(t, cert, ca.Pool(), host); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	if err := dial(t, cert, ca.Pool(), "other.example"); err == nil {
		t.Error("certificate passed for a host that is not its own")
	}
	other := mustOpen(t, t.TempDir(), time.Now)
	if err := dial(t, cert, other.Pool(), "localhost"); err == nil {
		t.Error("certificate passed with another authority")
	}
}

func TestReopenKeepsEverything(t *testing.T) {
	dir := t.TempDir()
	first := mustOpen(t, dir, time.Now)
	before := mustCert(t, first, "b.example", "127.0.0.1", "a.example").Certificate().Leaf

	again := mustOpen(t, dir, time.Now)
	if string(again.PEM()) != string(first.PEM()) {
		t.Error("the CA changed")
	}
	// The same hosts, spelled and ordered differently.
	after := mustCert(t, again, "A.example", "127.0.0.1", "b.example", "b.example").Certificate().Leaf
	if !after.Equal(before) {
		t.Error("certificate issued again for the same hosts")
	}
	if c := mustCert(t, again, "c.example").Certificate().Leaf; c.Equal(before) || c.VerifyHostname("c.example") != nil {
		t.Error("certificate kept although its hosts changed")
	}
	if _, err := os.Stat(again.Path()); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"ca.key", "ca.crt", "nats.key", "nats.crt"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
}

func TestRenewedBeforeExpiry(t *testing.T) {
	clock := time.Now()
	ca := mustOpen(t, t.TempDir(), func() time.Time { return clock })
	cert := mustCert(t, ca, "localhost")
	first := cert.Certificate().Leaf

	clock = first.NotAfter.Add(-renewBefore - time.Hour)
	if renewed, err := cert.Renew(); err != nil || renewed {
		t.Fatalf("renewed early: %v %v", renewed, err)
	}
	clock = first.NotAfter.Add(-renewBefore + time.Hour)
	if renewed, err := cert.Renew(); err != nil || !renewed {
		t.Fatalf("not renewed in time: %v %v", renewed, err)
	}
	if !cert.Certificate().Leaf.NotAfter.After(first.NotAfter) {
		t.Error("the new certificate does not last longer")
	}

	// Near the CA's own end a certificate is cut short, but not renewed on
	// every look.
	clock = ca.cert.NotAfter.Add(-48 * time.Hour)
	if _, err := cert.Renew(); err != nil {
		t.Fatal(err)
	}
	if renewed, err := cert.Renew(); err != nil || renewed {
		t.Errorf("renewed for ever near the CA's end: %v %v", renewed, err)
	}
	clock = ca.cert.NotAfter.Add(time.Hour)
	if _, err := open(ca.dir, ca.now); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("an expired CA opened: %v", err)
	}
}

// A start can be cut off between any two writes.
func TestTornStates(t *testing.T) {
	t.Run("CA key alone gets its certificate", func(t *testing.T) {
		ca := mustOpen(t, t.TempDir(), time.Now)
		remove(t, ca.certPath("ca"))
		again := mustOpen(t, ca.dir, time.Now)
		if !publicEqual(again.key.Public(), ca.key.Public()) {
			t.Error("the key was replaced")
		}
	})
	t.Run("server key replaced but not its certificate", func(t *testing.T) {
		ca := mustOpen(t, t.TempDir(), time.Now)
		cert := mustCert(t, ca, "localhost")
		key, err := newKeyPEM()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(cert.KeyFile, key, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := dial(t, mustCert(t, ca, "localhost"), ca.Pool(), "localhost"); err != nil {
			t.Error(err)
		}
	})
	for name, damage := range map[string]func(t *testing.T, ca *CA){
		"CA certificate without key": func(t *testing.T, ca *CA) { remove(t, ca.keyPath("ca")) },
		"CA key of another CA": func(t *testing.T, ca *CA) {
			key, err := newKeyPEM()
			if err != nil {
				t.Fatal(err)
			}
			write(t, ca.keyPath("ca"), key)
		},
		"CA key empty":       func(t *testing.T, ca *CA) { write(t, ca.keyPath("ca"), nil) },
		"CA certificate cut": func(t *testing.T, ca *CA) { write(t, ca.certPath("ca"), ca.pem[:len(ca.pem)/2]) },
	} {
		t.Run(name, func(t *testing.T) {
			ca := mustOpen(t, t.TempDir(), time.Now)
			damage(t, ca)
			before := tree(t, ca.dir)
			if _, err := Open(ca.dir); err == nil || hint.Of(err) == "" {
				t.Fatalf("want an error with a hint, got %v", err)
			}
			if after := tree(t, ca.dir); after != before {
				t.Errorf("a refused start changed the directory")
			}
		})
	}
}

func TestServerCertRefusals(t *testing.T) {
	ca := mustOpen(t, t.TempDir(), time.Now)
	for name, hosts := range map[string][]string{
		"ca": {"localhost"}, "../x": {"localhost"}, "": {"localhost"}, "nohosts": {}, "emptyhost": {""},
	} {
		if _, err := ca.ServerCert(name, hosts); err == nil {
			t.Errorf("accepted name %q, hosts %q", name, hosts)
		}
	}
}

func mustOpen(t *testing.T, dir string, now func() time.Time) *CA {
	t.Helper()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ca, err := open(dir, now)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func mustCert(t *testing.T, ca *CA, hosts ...string) *ServerCert {
	t.Helper()
	cert, err := ca.ServerCert("nats", hosts)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// dial makes a TLS connection and reads one byte over it.
func dial(t *testing.T, cert *ServerCert, roots *x509.CertPool, host string) error {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", cert.TLSConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = conn.Write([]byte("x"))
	}()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", l.Addr().String(),
		&tls.Config{RootCAs: roots, ServerName: host})
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = io.ReadFull(conn, make([]byte, 1))
	return err
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// tree is every file with its content.
func tree(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(e.Name() + "\n" + string(data))
	}
	return b.String()
}
