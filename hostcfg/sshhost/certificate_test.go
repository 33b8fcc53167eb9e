package sshhost_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/hostcfg/sshhost"
	"github.com/nationtech/fleetctl/hostcfg/sshhost/sshtest"
	"github.com/nationtech/fleetctl/internal/hint"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// certified is a server key that shows a certificate of an authority.
func certified(t *testing.T, authority ssh.Signer, principal string, until time.Time) ssh.Signer {
	t.Helper()
	key := sshtest.NewKey(t)
	cert := &ssh.Certificate{
		Key: key.PublicKey(), CertType: ssh.HostCert, KeyId: "pi", ValidPrincipals: []string{principal},
		ValidAfter: 1, ValidBefore: uint64(until.Unix()),
	}
	if err := cert.SignCert(rand.Reader, authority); err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewCertSigner(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func TestHostCertificates(t *testing.T) {
	authority, stranger := sshtest.NewKey(t), sshtest.NewKey(t)
	later, past := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	for name, c := range map[string]struct {
		host ssh.Signer
		want string // in the error; "" is let in
	}{
		"of the known authority":    {host: certified(t, authority, "127.0.0.1", later)},
		"of another authority":      {host: certified(t, stranger, "127.0.0.1", later), want: "not accepted"},
		"for another host":          {host: certified(t, authority, "192.0.2.1", later), want: "not accepted"},
		"expired":                   {host: certified(t, authority, "127.0.0.1", past), want: "not accepted"},
		"a plain key, never before": {host: sshtest.NewKey(t), want: "was not trusted"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, sshtest.Config{HostKey: c.host})
			r.asker.trust = false
			line := "@cert-authority " + knownhosts.Normalize(r.Addr) + " " + string(ssh.MarshalAuthorizedKey(authority.PublicKey()))
			if err := os.WriteFile(r.options.KnownHosts[0], []byte(line), 0o600); err != nil {
				t.Fatal(err)
			}
			h, err := sshhost.Dial(t.Context(), r.target, r.options)
			if err == nil {
				_ = h.Close()
			}
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || hint.Code(err) == 0) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if after, _ := os.ReadFile(r.options.KnownHosts[0]); string(after) != line {
				t.Errorf("known_hosts was changed to %q", after)
			}
		})
	}
}

// TestCertificateOfNoKnownAuthority: such a host is trusted on first use by
// its key, as OpenSSH does.
func TestCertificateOfNoKnownAuthority(t *testing.T) {
	r := newRig(t, sshtest.Config{HostKey: certified(t, sshtest.NewKey(t), "127.0.0.1", time.Now().Add(time.Hour)), PlainKey: plainKey(t)})
	for range 2 {
		_ = r.dial(t).Close()
	}
	known, err := os.ReadFile(filepath.Join(r.dir, "known_hosts"))
	if errors.Is(err, fs.ErrNotExist) || strings.Contains(string(known), "-cert-") || strings.Count(string(known), "\n") != 1 {
		t.Errorf("known_hosts is %q, %v", known, err)
	}
	if len(r.asker.keys) != 1 {
		t.Errorf("asked %d times", len(r.asker.keys))
	}
}

// plainKey is of another kind than the certificate's: a server shows one of each.
func plainKey(t *testing.T) ssh.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}
