package oidcclient

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/nationtech/fleetctl/internal/hint"
)

// maxInterval bounds how far polling backs off while the issuer does not answer.
const maxInterval = 60 // seconds

// Code is a sign-in that waits for a person.
type Code struct {
	UserCode string
	URL      string // where the person enters UserCode
	// CompleteURL has the code in it; "" when the issuer gives none.
	CompleteURL string
	Expiry      time.Time // by this machine's clock; zero when the issuer does not say

	device *oauth2.DeviceAuthResponse
	nonce  string
}

// Begin asks for a code (RFC 8628, 3.1).
func (p *Provider) Begin(ctx context.Context) (Code, error) {
	what := "sign in at " + p.cfg.Issuer
	if p.oauth.Endpoint.DeviceAuthURL == "" {
		return Code{}, hint.WithCode(hint.Wrap(fmt.Errorf("%s: %w", what, errNoDeviceFlow),
			"switch device codes on at the issuer, or name another with --issuer"), hint.CodeAuth)
	}
	nonce := rand.Text()
	type answer struct {
		device *oauth2.DeviceAuthResponse
		err    error
	}
	answered := make(chan answer, 1)
	go func() { // oauth2 makes this one request without the context
		device, err := p.oauth.DeviceAuth(p.context(ctx), oauth2.SetAuthURLParam("nonce", nonce))
		answered <- answer{device, err}
	}()
	var a answer
	select {
	case <-ctx.Done():
		return Code{}, fmt.Errorf("%s: %w", what, context.Cause(ctx))
	case a = <-answered:
	}
	if a.err != nil {
		return Code{}, p.explain(ctx, what, a.err)
	}
	if a.device.DeviceCode == "" || a.device.UserCode == "" || a.device.VerificationURI == "" {
		return Code{}, fmt.Errorf("%s: its answer holds no code", what)
	}
	return Code{UserCode: a.device.UserCode, URL: a.device.VerificationURI, CompleteURL: a.device.VerificationURIComplete,
		Expiry: a.device.Expiry, device: a.device, nonce: nonce}, nil
}

// Wait asks for the tokens until the person has decided or the code expires,
// no faster than the issuer wants (RFC 8628, 3.5). An issuer that does not answer
// for a while ends nothing.
func (p *Provider) Wait(ctx context.Context, code Code) (Tokens, error) {
	what := "sign in at " + p.cfg.Issuer
	device := *code.device
	for {
		token, err := p.oauth.DeviceAccessToken(p.context(ctx), &device)
		switch {
		case err == nil:
			return p.tokens(ctx, token, code.nonce)
		case ctx.Err() != nil:
			return Tokens{}, fmt.Errorf("%s: %w", what, context.Cause(ctx))
		case errors.Is(err, context.DeadlineExceeded) && code.expired():
			return Tokens{}, expired(what)
		case !passing(err):
			return Tokens{}, p.explain(ctx, what, err)
		}
		device.Interval = min(maxInterval, max(1, device.Interval)*2)
	}
}

func (c Code) expired() bool { return !c.Expiry.IsZero() && !time.Now().Before(c.Expiry) }

func expired(what string) error {
	return hint.WithCode(hint.New(what+": nobody approved the code before it expired", "run fleetctl login again"), hint.CodeAuth)
}

// passing says whether an error may go away by itself.
func passing(err error) bool {
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) {
		return refused.Response != nil && (refused.Response.StatusCode >= http.StatusInternalServerError || refused.Response.StatusCode == http.StatusTooManyRequests)
	}
	var network *url.Error
	return errors.As(err, &network) && !isTLS(err)
}

func postForm(ctx context.Context, client *http.Client, to string, form url.Values) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return client.Do(req)
}
