// Package pki is the control plane's own certificate authority: made at first
// start, kept in one directory, and used for every TLS listener of a server.
// It owns keys, certificates and their renewal; it opens no listener. Devices
// and kubeconfigs carry the CA certificate, so it never changes by itself.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"path/filepath"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/secretfile"
)

const (
	caLifetime = 10 * 365 * 24 * time.Hour
	// backdate tolerates clients whose clock is behind: a Pi has no battery
	// for its clock.
	backdate = 24 * time.Hour
)

// CA is a certificate authority on disk. It is safe for concurrent use.
type CA struct {
	dir  string
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
	now  func() time.Time
}

// Open loads the authority in dir, or makes one there when there is none. Half
// an authority, or a key that does not fit its certificate, is an error:
// making a new one would lock out everything that trusts the old one.
func Open(dir string) (*CA, error) { return open(dir, time.Now) }

func open(dir string, now func() time.Time) (*CA, error) {
	if err := secretfile.EnsureDir(dir); err != nil {
		return nil, err
	}
	ca := &CA{dir: dir, now: now}
	_, err := secretfile.Read(ca.keyPath("ca"))
	keyMissing := errors.Is(err, fs.ErrNotExist)
	_, err = secretfile.Read(ca.certPath("ca"))
	if keyMissing && err == nil {
		return nil, hint.Wrap(fmt.Errorf("certificate authority %s has a certificate but no key", dir),
			"restore ca.key from a backup; or remove the directory and onboard every device again")
	}

	// The key is written first: a start that was cut off between the two
	// leaves a key that has signed nothing yet and gets its certificate now.
	keyPEM, err := secretfile.LoadOrCreate(ca.keyPath("ca"), newKeyPEM)
	if err != nil {
		return nil, err
	}
	if ca.key, err = parseKey(keyPEM); err != nil {
		return nil, ca.damaged(err)
	}
	if ca.pem, err = secretfile.LoadOrCreate(ca.certPath("ca"), ca.selfSign); err != nil {
		return nil, err
	}
	if ca.cert, err = parseCert(ca.pem); err != nil {
		return nil, ca.damaged(err)
	}
	if !publicEqual(ca.cert.PublicKey, ca.key.Public()) {
		return nil, ca.damaged(errors.New("the key is not that of the certificate"))
	}
	if now().After(ca.cert.NotAfter) {
		return nil, hint.Wrap(fmt.Errorf("certificate authority %s expired on %s", dir, ca.cert.NotAfter.Format(time.DateOnly)),
			"check this machine's clock; if it is right, remove the directory and onboard every device again")
	}
	return ca, nil
}

// PEM is the CA certificate that clients have to trust.
func (ca *CA) PEM() []byte { return append([]byte(nil), ca.pem...) }

// Path is the file of the CA certificate.
func (ca *CA) Path() string { return ca.certPath("ca") }

// NotAfter is when the authority ends.
func (ca *CA) NotAfter() time.Time { return ca.cert.NotAfter }

// Pool has the CA as its only root.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return pool
}

func (ca *CA) certPath(name string) string { return filepath.Join(ca.dir, name+".crt") }
func (ca *CA) keyPath(name string) string  { return filepath.Join(ca.dir, name+".key") }

func (ca *CA) damaged(err error) error {
	return hint.Wrap(fmt.Errorf("certificate authority %s is damaged: %w", ca.dir, err),
		"restore ca.key and ca.crt from a backup; or remove the directory and onboard every device again")
}

func (ca *CA) selfSign() ([]byte, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	now := ca.now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "fleet control plane " + serial.Text(16)[:8]},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(caLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, ca.key.Public(), ca.key)
	if err != nil {
		return nil, err
	}
	return encodeCert(der), nil
}

// newSerial has 120 random bits, in the spirit of the CA/Browser Forum's
// baseline requirements (7.1: at least 64), with the top bit set so that its
// length is constant.
func newSerial() (*big.Int, error) {
	limit := new(big.Int).Lsh(big.NewInt(1), 119)
	n, err := rand.Int(rand.Reader, limit)
	if err != nil {
		return nil, err
	}
	return n.Add(n, limit), nil
}

func newKeyPEM() ([]byte, error) {
	// P-256: every TLS client speaks it, and Pis verify it fast.
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return encodeKey(key)
}
