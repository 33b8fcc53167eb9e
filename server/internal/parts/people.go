package parts

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/nationtech/fleetctl/internal/identity/verify"
	"github.com/nationtech/fleetctl/server/internal/supervise"
)

// tokenLeeway is for a token that was made a moment ago by another's clock.
const tokenLeeway = 5 * time.Second

// People is the issuer of people's and devices' tokens.
type People struct {
	Issuer      string // exactly as in the tokens; empty: no tokens are taken
	CAFile      string // PEM, of the issuer's certificate; without it the system's authorities count
	ProjectID   string // the audience of the tokens
	ClientID    string // of fleetctl, for signing in
	DashboardID string // client id of the dashboard; empty: no pages are served
}

func (c *People) faults() []error {
	if c.Issuer != "" && c.ProjectID == "" {
		return []error{errors.New("--project-id is needed with --issuer")}
	}
	return nil
}

// httpClient reaches the issuer.
func (c *People) httpClient() (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the issuer's CA: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("the issuer's CA %s holds no certificate in PEM", c.CAFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: transport}, nil
}

// verifier checks tokens of the issuer that are for audience; idClaim may be
// empty.
func (c *People) verifier(audience, idClaim string) (*verify.Verifier, supervise.Part, error) {
	client, err := c.httpClient()
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	v := verify.New(ctx, verify.Config{Issuer: c.Issuer, Audiences: []string{audience}, IDClaim: idClaim, HTTPClient: client, Leeway: tokenLeeway})
	return v, supervise.Held(func(context.Context) error {
		cancel()
		client.CloseIdleConnections()
		return nil
	}), nil
}
