package pki

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nationtech/fleetctl/internal/secretfile"
)

const (
	serverLifetime = 397 * 24 * time.Hour // the longest that browsers accept
	renewBefore    = serverLifetime / 3
	renewEvery     = time.Hour
)

var certName = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

// ServerCert is a listener's certificate and key. It is safe for concurrent
// use, and serves a renewed certificate without a restart.
type ServerCert struct {
	CertFile string // PEM
	KeyFile  string // PEM, PKCS #8

	ca    *CA
	name  string
	hosts []string

	mu      sync.Mutex
	current *tls.Certificate
}

// ServerCert gives the certificate called name (the file name, such as "nats")
// for hosts, which are DNS names and IP addresses. The one on disk is used
// when it is for just these hosts, signed by this CA, whole, and not soon to
// expire; else a new one with a new key takes its place.
func (ca *CA) ServerCert(name string, hosts []string) (*ServerCert, error) {
	if !certName.MatchString(name) || name == "ca" {
		return nil, fmt.Errorf("server certificate: %q is no usable name", name)
	}
	hosts = normalise(hosts)
	if len(hosts) == 0 || slices.Contains(hosts, "") {
		return nil, fmt.Errorf("server certificate %s: hosts %q must be names or addresses, at least one", name, hosts)
	}
	c := &ServerCert{CertFile: ca.certPath(name), KeyFile: ca.keyPath(name), ca: ca, name: name, hosts: hosts}
	if _, err := c.Renew(); err != nil {
		return nil, err
	}
	return c, nil
}

// Name is what the certificate is for, such as "nats".
func (c *ServerCert) Name() string { return c.name }

// TLSConfig is for a listener. It follows renewals.
func (c *ServerCert) TLSConfig() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.Certificate(), nil },
	}
}

// Certificate is the one in force.
func (c *ServerCert) Certificate() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current
}

// Keep renews the certificate in time, until ctx ends.
func (c *ServerCert) Keep(ctx context.Context, log *slog.Logger) {
	ticker := time.NewTicker(renewEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		switch renewed, err := c.Renew(); {
		case err != nil:
			log.Error("certificate not renewed", "op", "renew certificate", "name", c.name, "error", err)
		case renewed:
			log.Info("certificate renewed", "op", "renew certificate", "name", c.name)
		}
	}
}

// Renew replaces the certificate when it has to be, and says whether it was.
func (c *ServerCert) Renew() (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cert, err := c.load(); err == nil {
		c.current = cert
		return false, nil
	}
	if err := c.issue(); err != nil {
		return false, fmt.Errorf("issue server certificate %s: %w", c.name, err)
	}
	cert, err := c.load()
	if err != nil {
		return false, fmt.Errorf("load new server certificate %s: %w", c.name, err)
	}
	c.current = cert
	return true, nil
}

// load reads what is on disk; any error means that a new one is needed.
func (c *ServerCert) load() (*tls.Certificate, error) {
	certPEM, err := secretfile.Read(c.CertFile)
	if err != nil {
		return nil, err
	}
	keyPEM, err := secretfile.Read(c.KeyFile)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM) // refuses a pair that does not match
	if err != nil {
		return nil, err
	}
	now := c.ca.now()
	_, err = pair.Leaf.Verify(x509.VerifyOptions{
		Roots: c.ca.Pool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	switch {
	case err != nil:
		return nil, err
	case pair.Leaf.NotAfter.Sub(now) < c.renewMargin(pair.Leaf):
		return nil, errors.New("expires soon")
	case !slices.Equal(hostsOf(pair.Leaf), c.hosts):
		return nil, errors.New("is for other hosts")
	}
	return &pair, nil
}

// renewMargin is shorter for a certificate that the CA's own end cut short, or
// it would be renewed for ever.
func (c *ServerCert) renewMargin(leaf *x509.Certificate) time.Duration {
	if leaf.NotAfter.Equal(c.ca.cert.NotAfter) {
		return 0
	}
	return renewBefore
}

func (c *ServerCert) issue() error {
	keyPEM, err := newKeyPEM()
	if err != nil {
		return err
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return err
	}
	serial, err := newSerial()
	if err != nil {
		return err
	}
	now := c.ca.now()
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "fleet " + c.name},
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.Add(serverLifetime),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if template.NotAfter.After(c.ca.cert.NotAfter) {
		template.NotAfter = c.ca.cert.NotAfter
	}
	for _, h := range c.hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.ca.cert, key.Public(), c.ca.key)
	if err != nil {
		return err
	}
	// Cut off between the two, the pair does not match and is issued again.
	if err := secretfile.Write(c.KeyFile, keyPEM); err != nil {
		return err
	}
	return secretfile.Write(c.CertFile, encodeCert(der))
}

// normalise sorts, drops duplicates, and spells addresses as hostsOf does.
func normalise(hosts []string) []string {
	out := make([]string, 0, len(hosts))
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			h = ip.String()
		}
		out = append(out, strings.ToLower(h))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// hostsOf is the inverse of what issue writes: sorted names and addresses.
func hostsOf(cert *x509.Certificate) []string {
	hosts := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		hosts = append(hosts, ip.String())
	}
	slices.Sort(hosts)
	return hosts
}
