package oidcclient

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/nationtech/fleetctl/internal/hint"
)

const (
	grantDevice     = "urn:ietf:params:oauth:grant-type:device_code"
	defaultInterval = 5 * time.Second // RFC 8628, 3.2
	slowDown        = 5 * time.Second // RFC 8628, 3.5
	maxInterval     = time.Minute     // while the issuer does not answer
	maxAnswer       = 1 << 20
)

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
	interval := time.Duration(code.device.Interval) * time.Second
	if interval <= 0 {
		interval = defaultInterval
	}
	for pause := interval; ; {
		select {
		case <-ctx.Done():
			return Tokens{}, fmt.Errorf("%s: %w", what, context.Cause(ctx))
		case <-time.After(pause):
		}
		if code.expired() {
			return Tokens{}, expired(what)
		}
		token, err := p.poll(ctx, code)
		var refused *oauth2.RetrieveError
		if errors.As(err, &refused) && refused.ErrorCode == "slow_down" {
			interval += slowDown
		}
		switch {
		case err == nil:
			return p.tokens(ctx, token, code.nonce)
		case ctx.Err() != nil:
			return Tokens{}, fmt.Errorf("%s: %w", what, context.Cause(ctx))
		case refused != nil && (refused.ErrorCode == "slow_down" || refused.ErrorCode == "authorization_pending"):
			pause = interval
		case passing(err):
			pause = min(maxInterval, max(interval, 2*pause))
		default:
			return Tokens{}, p.explain(ctx, what, err)
		}
	}
}

// poll asks once (RFC 8628, 3.4). oauth2's own loop would take an issuer's
// restart for the end of the sign-in.
func (p *Provider) poll(ctx context.Context, code Code) (*oauth2.Token, error) {
	resp, err := postForm(ctx, p.client, p.oauth.Endpoint.TokenURL,
		url.Values{"grant_type": {grantDevice}, "device_code": {code.device.DeviceCode}, "client_id": {p.cfg.ClientID}})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, &url.Error{Op: "read", URL: p.oauth.Endpoint.TokenURL, Err: err}
	}
	var answer struct {
		oauth2.Token
		IDToken     string `json:"id_token"`
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if bad := json.Unmarshal(body, &answer); bad != nil || resp.StatusCode != http.StatusOK || answer.AccessToken == "" {
		return nil, &oauth2.RetrieveError{Response: resp, Body: body, ErrorCode: answer.Error, ErrorDescription: answer.Description}
	}
	if answer.ExpiresIn > 0 {
		answer.Expiry = time.Now().Add(time.Duration(answer.ExpiresIn) * time.Second)
	}
	return answer.WithExtra(map[string]any{"id_token": answer.IDToken}), nil
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
