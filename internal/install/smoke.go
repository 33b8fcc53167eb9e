package install

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleetctl/internal/hint"
)

const (
	smokeTimeout = 10 * time.Second
	maxAnswer    = 1 << 20 // bytes
)

// Smoke is the test of an installation through its public URLs: what devices
// and people use, and not what the cluster says of itself.
type Smoke struct {
	APIURL    string
	Issuer    string
	NATSURLs  []string
	Namespace string         // of the parts, for hints
	Login     string         // the command that signs a person in, likewise
	Roots     *x509.CertPool // of the public certificates; nil means the system's
	// NATSRoots are of the NATS servers' certificate, where that is another's.
	NATSRoots *x509.CertPool
	// Canary is let in by the callout, and writes; nil: that is not tested.
	Canary *Canary
}

// Check is one outcome.
type Check struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Skipped says that it was not made, and Detail why: it is neither OK nor
	// failed.
	Skipped bool   `json:"skipped,omitempty"`
	Detail  string `json:"detail,omitempty"`
	Hint    string `json:"hint,omitempty"`
}

// Failed says that a check was made and not passed.
func (c Check) Failed() bool { return !c.OK && !c.Skipped }

// Run makes every check, whatever the others said.
func (s *Smoke) Run(ctx context.Context) []Check {
	var all []Check
	for _, c := range []struct {
		name    string
		timeout time.Duration
		run     func(context.Context) error
	}{
		{"certificate of the API", smokeTimeout, s.certificate},
		{"API is ready", smokeTimeout, s.ready},
		{"OIDC discovery", smokeTimeout, s.discovery},
		{"callout keeps a stranger out", smokeTimeout, s.stranger},
		{"callout lets a device in, and what it writes is read", canaryTimeout, s.canary},
	} {
		limited, cancel := context.WithTimeout(ctx, c.timeout)
		err := c.run(limited)
		cancel()
		switch {
		case errors.Is(err, errNotTested):
			all = append(all, Check{Name: c.name, Skipped: true, Detail: err.Error(), Hint: hint.Of(err)})
		case err != nil:
			all = append(all, Check{Name: c.name, Detail: err.Error(), Hint: hint.Of(err)})
		default:
			all = append(all, Check{Name: c.name, OK: true})
		}
	}
	return all
}

// errNotTested is a check that cannot be made.
var errNotTested = errors.New("not tested")

func (s *Smoke) notTested(why string) error {
	return hint.Wrap(fmt.Errorf("%w: %s", errNotTested, why),
		s.Login+", as somebody who may make accounts at the issuer; then: fleetctl server test -n "+s.Namespace)
}

// kubectl is a command about the installation.
func (s *Smoke) kubectl(args string) string { return "kubectl -n " + s.Namespace + " " + args }

func (s *Smoke) client() *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: s.tls(), DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment}}
}

func (s *Smoke) tls() *tls.Config { return &tls.Config{RootCAs: s.Roots, MinVersion: tls.VersionTLS12} }

// get gives the status code of an answer, and its body.
func (s *Smoke) get(ctx context.Context, url string) (code int, body []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, err
	}
	response, err := s.client().Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	return response.StatusCode, body, err
}

func (s *Smoke) certificate(ctx context.Context) error {
	_, _, err := s.get(ctx, s.APIURL+"/healthz")
	var verification *tls.CertificateVerificationError
	if errors.As(err, &verification) {
		return hint.Wrap(err, "the certificate is not there yet, or of an authority that this machine does not know: "+s.kubectl("get certificate,secret")+"; or name the authority with --ca FILE")
	}
	if err != nil {
		return hint.Wrap(err, "does the name resolve to the ingress, and is that reachable from here?")
	}
	return nil
}

func (s *Smoke) ready(ctx context.Context) error {
	code, body, err := s.get(ctx, s.APIURL+"/readyz")
	if err != nil {
		return err
	}
	if code != http.StatusOK {
		return hint.Wrap(fmt.Errorf("%d %s: %s", code, http.StatusText(code), strings.TrimSpace(string(body))), s.kubectl("logs deployment/fleet-dashboard"))
	}
	return nil
}

func (s *Smoke) discovery(ctx context.Context) error {
	code, body, err := s.get(ctx, strings.TrimSuffix(s.Issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return hint.Wrap(err, "is the issuer's URL right, and reachable from here?")
	}
	var document struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if code != http.StatusOK || json.Unmarshal(body, &document) != nil || document.JWKSURI == "" {
		return hint.Wrap(fmt.Errorf("%d %s, and no discovery document", code, http.StatusText(code)), "is that an OpenID Connect issuer?")
	}
	if document.Issuer != s.Issuer {
		return hint.Wrap(fmt.Errorf("it calls itself %s, and tokens are checked for %s", document.Issuer, s.Issuer), "give --issuer exactly as the issuer calls itself")
	}
	return nil
}

// stranger is somebody without a credential, and somebody with a made-up one.
func (s *Smoke) stranger(ctx context.Context) error {
	for _, credential := range []nats.Option{nats.UserInfo("smoke-stranger", "guessed"), nats.Token("eyJhbGciOiJub25lIn0.e30.")} {
		if err := s.keptOut(ctx, credential); err != nil {
			return err
		}
	}
	return nil
}

// keptOut is nil when the callout refuses a login.
func (s *Smoke) keptOut(ctx context.Context, login nats.Option) error {
	conn, err := s.dial(ctx, login)
	if err == nil {
		conn.Close()
		return hint.New("a stranger was let in", "take the servers off the network, and compare their configuration with ConfigMap "+accountsMap)
	}
	if !errors.Is(err, nats.ErrAuthorization) {
		return hint.Wrap(fmt.Errorf("no login was decided: %w", err), "is NATS reachable at its public URL, and does a callout answer? "+s.kubectl("logs deployment/fleet-callout"))
	}
	return nil
}

func (s *Smoke) dial(ctx context.Context, login nats.Option, more ...nats.Option) (*nats.Conn, error) {
	timeout := smokeTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = time.Until(deadline)
	}
	return nats.Connect(strings.Join(s.NATSURLs, ","), append([]nats.Option{login, nats.Name("fleetctl smoke test"), nats.Secure(&tls.Config{RootCAs: cmp.Or(s.NATSRoots, s.Roots), MinVersion: tls.VersionTLS12}),
		nats.Timeout(min(timeout, smokeTimeout)), nats.NoReconnect()}, more...)...)
}
