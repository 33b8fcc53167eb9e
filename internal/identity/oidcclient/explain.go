package oidcclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/nationtech/fleetctl/internal/hint"
)

var errFromFuture = errors.New("it was issued in the future")

// explainDiscovery tells an issuer that cannot be reached from an address that
// is no issuer's.
func (p *Provider) explainDiscovery(ctx context.Context, err error) error {
	what := "discover the issuer " + p.cfg.Issuer
	var network *url.Error
	if ctx.Err() != nil || errors.As(err, &network) {
		return p.explain(ctx, what, err)
	}
	return hint.WithCode(hint.Wrap(fmt.Errorf("%s: what answers there is no OpenID Connect issuer of that name: %s", what, withoutPage(err.Error())),
		"check --issuer: "+p.cfg.Issuer+"/.well-known/openid-configuration has to name exactly this URL as its issuer"), hint.CodeFailed)
}

// explain adds to an error of the issuer, or of the way to it, what to do.
func (p *Provider) explain(ctx context.Context, what string, err error) error {
	var refused *oauth2.RetrieveError
	var untrusted *tls.CertificateVerificationError
	wrapped := fmt.Errorf("%s: %w", what, err)
	switch {
	case ctx.Err() != nil:
		return wrapped
	case errors.As(err, &untrusted):
		return explainCertificate(what, err)
	case errors.As(err, &refused):
		return p.explainRefusal(what, refused)
	}
	return hint.WithCode(hint.Wrap(wrapped, "check the network, and that "+p.cfg.Issuer+" is the issuer's URL and can be reached from here"), hint.CodeUnreachable)
}

func (p *Provider) explainRefusal(what string, e *oauth2.RetrieveError) error {
	switch e.ErrorCode {
	case "invalid_client", "unauthorized_client":
		return hint.WithCode(hint.New(fmt.Sprintf("%s: it does not let client %q sign in by device code%s", what, p.cfg.ClientID, because(e.ErrorDescription)),
			"check --client-id: it is the app's client id (Zitadel's are numbers), not its name, and the app needs the grant type device code; "+
				"without --client-id the server's own is taken"), hint.CodeAuth)
	case "access_denied":
		return hint.WithCode(hint.New(what+": it was denied", "run fleetctl login again, and approve"), hint.CodeAuth)
	case "expired_token":
		return expired(what)
	case "invalid_scope":
		return hint.WithCode(hint.New(what+": it refuses the scopes that were asked for"+because(e.ErrorDescription),
			"allow openid, profile, email and offline_access for the client at the issuer"), hint.CodeAuth)
	case "":
		return hint.WithCode(hint.New(fmt.Sprintf("%s: HTTP %s", what, e.Response.Status), "look into the issuer's log"), hint.CodeFailed)
	}
	return hint.WithCode(hint.New(what+": "+e.ErrorCode+because(e.ErrorDescription), "look into the issuer's log"), hint.CodeAuth)
}

// explainToken is for an ID token that is not good.
func (p *Provider) explainToken(ctx context.Context, err error) error {
	what := "check the ID token of " + p.cfg.Issuer
	var old *oidc.TokenExpiredError
	var network *url.Error
	switch {
	case ctx.Err() != nil || errors.As(err, &network):
		return p.explain(ctx, what, err)
	case errors.As(err, &old), errors.Is(err, errFromFuture):
		return hint.WithCode(hint.Wrap(fmt.Errorf("%s: %w; %s", what, err, p.dates.describe()),
			"set the clock of this machine: timedatectl set-ntp true"), hint.CodeAuth)
	}
	return hint.WithCode(hint.Wrap(fmt.Errorf("%s: %w", what, err),
		"check --client-id and --issuer; if they are right, somebody may be between you and the issuer"), hint.CodeAuth)
}

// explainCertificate is for TLS that cannot be trusted.
func explainCertificate(what string, err error) error {
	var invalid x509.CertificateInvalidError
	var other x509.HostnameError
	next := "name the authority with --ca-file FILE (on the server's machine: pki/ca.crt in its data directory)"
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		next = "compare the clock of this machine (timedatectl) with the dates in the certificate"
	case errors.As(err, &other):
		next = "use a name that the certificate is for, or start the server with --advertise for this one"
	}
	return hint.WithCode(hint.Wrap(fmt.Errorf("%s: %w", what, err), next), hint.CodeAuth)
}

func isTLS(err error) bool {
	var untrusted *tls.CertificateVerificationError
	return errors.As(err, &untrusted)
}

func because(description string) string {
	if description == "" {
		return ""
	}
	return " (" + clip(description) + ")"
}

// withoutPage leaves out a page that came with an error: only its status says
// something.
func withoutPage(s string) string {
	head, _, _ := strings.Cut(s, "<")
	return clip(strings.TrimRight(head, ": \n"))
}

// clip bounds what a stranger gets onto a terminal; an issuer that is none may
// answer with a whole page.
func clip(s string) string {
	const most = 200
	if len(s) > most {
		s = s[:most] + "…"
	}
	clean := []rune(s)
	for i, r := range clean {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			clean[i] = ' '
		}
	}
	return string(clean)
}

// dates notes how far the issuer's clock is ahead, by the Date of its last answer.
type dates struct {
	now  func() time.Time
	base http.RoundTripper

	mu    sync.Mutex
	ahead time.Duration
	known bool
}

func (d *dates) RoundTrip(req *http.Request) (*http.Response, error) {
	base := d.base
	if base == nil {
		base = http.DefaultTransport
	}
	resp, err := base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if at, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		d.mu.Lock()
		d.ahead, d.known = at.Sub(d.now()), true
		d.mu.Unlock()
	}
	return resp, nil
}

func (d *dates) describe() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	ahead := d.ahead.Round(time.Second)
	switch {
	case d.known && ahead > leeway:
		return fmt.Sprintf("this machine's clock is %s behind the issuer's", ahead)
	case d.known && ahead < -leeway:
		return fmt.Sprintf("this machine's clock is %s ahead of the issuer's", -ahead)
	}
	return "the issuer's own clock may be wrong"
}
