package install

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"
)

// natsLifetime is long because nothing in the cluster renews it; the status
// command warns in time. It is between the parts and NATS alone: devices see
// the public certificate.
const natsLifetime = 10 * 365 * 24 * time.Hour

// natsCertificate makes an authority and the certificate of the NATS servers.
// The authority's key is thrown away: nobody else gets a certificate of it.
func (o *Options) natsCertificate() (map[string][]byte, error) {
	now := time.Now()
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make certificate of NATS: %w", err)
	}
	authority := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "fleet NATS in " + o.Namespace},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(natsLifetime),
		IsCA: true, MaxPathLenZero: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	service := natsName + "." + o.Namespace + ".svc"
	// Servers find each other by the chart's routes, which are without the
	// namespace: nats-0.nats-headless.
	short := natsName + "-headless"
	headless := short + "." + o.Namespace + ".svc"
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make certificate of NATS: %w", err)
	}
	leaf := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: service},
		NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
		DNSNames: []string{service, service + ".cluster.local", headless, "*." + headless, headless + ".cluster.local",
			"*." + headless + ".cluster.local", "*." + short, o.natsHost(), "localhost"},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, // servers are each other's clients
	}
	authorityDER, err := x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	if err != nil {
		return nil, fmt.Errorf("make authority of NATS: %w", err)
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, authority, key.Public(), authorityKey)
	if err != nil {
		return nil, fmt.Errorf("make certificate of NATS: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key of NATS: %w", err)
	}
	return map[string][]byte{
		"ca.crt": encodePEM("CERTIFICATE", authorityDER), "tls.crt": encodePEM("CERTIFICATE", leafDER), "tls.key": encodePEM("PRIVATE KEY", keyDER),
	}, nil
}

func serial() *big.Int { return new(big.Int).SetBytes(random(16)) }

func encodePEM(kind string, der []byte) []byte {
	var b bytes.Buffer
	_ = pem.Encode(&b, &pem.Block{Type: kind, Bytes: der}) // into memory
	return b.Bytes()
}
