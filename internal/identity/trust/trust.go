// Package trust decides nothing about whom to trust: it makes HTTP clients that
// trust what they are told to, and fetches what a person is asked about the
// first time, the authority of a fleet-server, so that its certificate is checked
// from then on.
package trust

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
)

const (
	timeout        = 30 * time.Second
	connectTimeout = 10 * time.Second
	maxAnswer      = 1 << 20
)

// Client trusts the system's authorities and those in caPEM, which may be empty.
func Client(caPEM []byte) (*http.Client, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // a system without any
	}
	if len(caPEM) > 0 && !pool.AppendCertsFromPEM(caPEM) {
		return nil, hint.WithCode(hint.New("the CA file holds no certificate", "copy ca.crt anew from the server's data directory (pki/ca.crt)"), hint.CodeUsage)
	}
	return client(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}), nil
}

func client(config *tls.Config) *http.Client {
	return &http.Client{Timeout: timeout, Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, TLSHandshakeTimeout: connectTimeout,
		DialContext: (&net.Dialer{Timeout: connectTimeout}).DialContext, ForceAttemptHTTP2: true,
	}}
}

// Unknown says whether err is a certificate of an authority that is not known.
func Unknown(err error) bool {
	var unknown x509.UnknownAuthorityError
	return errors.As(err, &unknown)
}

// Authority is what a server says its certificate is vouched for by.
type Authority struct {
	PEM         []byte
	Fingerprint string // as openssl x509 -fingerprint -sha256 prints it
	Subject     string
}

// Ask fetches the authority that the fleet-server at base names (GET /v1/signin),
// over a connection that nobody vouches for, and checks that the certificate seen
// there is for that host and from that authority. Whether to trust it is for a
// person, who compares the fingerprint with the server's.
func Ask(ctx context.Context, base string) (Authority, error) {
	what := "ask " + base + " for its authority"
	target, err := url.JoinPath(base, "v1", "signin")
	if err != nil {
		return Authority{}, fmt.Errorf("%s: %w", what, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return Authority{}, fmt.Errorf("%s: %w", what, err)
	}
	//nolint:gosec // nothing is sent that is secret, and what comes is checked below and by a person
	resp, err := client(&tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}).Do(req)
	if err != nil {
		return Authority{}, hint.WithCode(fmt.Errorf("%s: %w", what, err), hint.CodeUnreachable)
	}
	defer resp.Body.Close()
	var said struct {
		CAPEM string `json:"caPEM"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&said); err != nil || said.CAPEM == "" {
		return Authority{}, hint.WithCode(hint.New(what+": its certificate is of an authority that is unknown here, and it does not say which, as a fleet-server does",
			"check the URL; if it is right, name the authority with --ca-file FILE"), hint.CodeAuth)
	}
	authority, err := Read([]byte(said.CAPEM))
	if err != nil {
		return Authority{}, fmt.Errorf("%s: %w", what, err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.PEM)
	if _, err := resp.TLS.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: req.URL.Hostname()}); err != nil {
		return Authority{}, hint.WithCode(hint.Wrap(fmt.Errorf("%s: its certificate is not from the authority that it names: %w", what, err),
			"somebody may be between you and the server; name the authority with --ca-file FILE"), hint.CodeAuth)
	}
	return authority, nil
}

// Read describes the first certificate in data.
func Read(data []byte) (Authority, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return Authority{}, errors.New("there is no certificate in it")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return Authority{}, err
	}
	return Authority{PEM: pem.EncodeToMemory(block), Fingerprint: fingerprint(cert.Raw), Subject: cert.Subject.String()}, nil
}

func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	digits := strings.ToUpper(hex.EncodeToString(sum[:]))
	var pairs []string
	for i := 0; i < len(digits); i += 2 {
		pairs = append(pairs, digits[i:i+2])
	}
	return strings.Join(pairs, ":")
}

// Is says whether text is this authority's fingerprint, with or without colons.
func (a Authority) Is(text string) bool {
	plain := func(s string) string {
		return strings.ToUpper(strings.NewReplacer(":", "", " ", "").Replace(strings.TrimPrefix(strings.ToLower(s), "sha256")))
	}
	return plain(text) == plain(a.Fingerprint)
}
