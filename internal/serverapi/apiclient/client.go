// Package apiclient is the client of fleet-server's HTTPS API. Its errors carry
// the next thing to type and the exit code; it asks nobody and prints nothing.
package apiclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/serverapi/tunnel"
	"github.com/nationtech/fleetctl/internal/wire"
)

const (
	connectTimeout = 10 * time.Second
	requestTimeout = time.Minute // the caller's context may be shorter
	maxAnswerBytes = 4 << 20
)

// Client talks to one server. It is safe for concurrent use.
type Client struct {
	base  *url.URL
	token func(context.Context) (string, error)
	renew func(ctx context.Context, refused string) (string, error) // nil: there is no other token
	http  *http.Client
	long  *http.Client // through a tunnel, without a limit on the time of a request
}

// New gives a client of the server at rawURL (https). caPEM is the only
// authority that is trusted; empty means the system's.
func New(rawURL string, caPEM []byte, token string) (*Client, error) {
	token = strings.TrimSpace(token)
	return NewWithTokens(rawURL, caPEM, func(context.Context) (string, error) { return token, nil })
}

// Session gives the token of each request, and another one in place of a token
// that the server refused.
type Session interface {
	Token(ctx context.Context) (string, error)
	Renew(ctx context.Context, refused string) (string, error)
}

// NewWithSession is New with a person's session.
func NewWithSession(rawURL string, caPEM []byte, s Session) (*Client, error) {
	c, err := NewWithTokens(rawURL, caPEM, s.Token)
	if err == nil {
		c.renew = s.Renew
	}
	return c, err
}

// NewWithTokens is New with a token that is asked for before each request.
func NewWithTokens(rawURL string, caPEM []byte, token func(context.Context) (string, error)) (*Client, error) {
	base, err := url.Parse(rawURL)
	if err != nil || base.Scheme != "https" || base.Host == "" {
		return nil, hint.WithCode(hint.New(fmt.Sprintf("server URL %q is not an https URL", rawURL),
			"write it as https://HOST:PORT"), hint.CodeUsage)
	}
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(caPEM) > 0 {
		tlsConfig.RootCAs = x509.NewCertPool()
		if !tlsConfig.RootCAs.AppendCertsFromPEM(caPEM) {
			return nil, hint.New("the server's CA file holds no certificate", "copy ca.crt anew from the server's data directory")
		}
	}
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: connectTimeout}).DialContext,
		TLSClientConfig:     tlsConfig,
		TLSHandshakeTimeout: connectTimeout,
		ForceAttemptHTTP2:   true,
	}
	short := &http.Client{
		Timeout: requestTimeout,
		// The token goes to this server and nowhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     transport,
	}
	long := *short
	long.Timeout, long.Transport = 0, &tunnel.Client{Direct: transport}
	return &Client{base: base, token: token, http: short, long: &long}, nil
}

// Error is the server's refusal.
type Error struct {
	Status int // of HTTP
	Body   api.Error
}

func (e *Error) Error() string { return e.Body.Message }

// Code gives the error code of a refusal, or "" for any other error.
func Code(err error) api.Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Body.Code
	}
	return ""
}

// Version asks which version the server is.
func (c *Client) Version(ctx context.Context) (v api.Version, err error) {
	return v, c.do(ctx, "ask for the server's version", http.MethodGet, nil, &v, "version")
}

// Ready is nil when every part of the server is up.
func (c *Client) Ready(ctx context.Context) error {
	return c.do(ctx, "ask whether the server is ready", http.MethodGet, nil, &api.Health{}, "readyz")
}

// Enrol registers a device id for a machine and gives what makes it a device.
// Doing it again changes nothing. An id of another machine is
// api.CodeOtherMachine.
func (c *Client) Enrol(ctx context.Context, device string, r api.EnrolmentRequest) (e api.Enrolment, err error) {
	return e, c.device(ctx, "enrol", http.MethodPost, device, r, &e, "enrolment")
}

// Preview gives what Enrol would, and registers nothing.
func (c *Client) Preview(ctx context.Context, device string, r api.EnrolmentRequest) (e api.Enrolment, err error) {
	return e, c.device(ctx, "preview the enrolment of", http.MethodPost, device, r, &e, "enrolment", "preview")
}

// Revoke shuts a device out and disconnects it.
func (c *Client) Revoke(ctx context.Context, device string) (d api.Device, err error) {
	return d, c.device(ctx, "revoke", http.MethodDelete, device, nil, &d, "enrolment")
}

// Device tells what is known of a device; api.CodeNotFound when nothing is.
func (c *Client) Device(ctx context.Context, device string) (d api.Device, err error) {
	return d, c.device(ctx, "look up", http.MethodGet, device, nil, &d)
}

// Ping has the device's agent answer. It may be api.CodeDeviceOffline,
// CodeDeviceNoAnswer or CodeDeviceRefused.
func (c *Client) Ping(ctx context.Context, device string) (p api.Ping, err error) {
	return p, c.device(ctx, "ping", http.MethodPost, device, nil, &p, "commands", string(wire.VerbPing))
}

// Probe asks for a sign of life, as Ping does and with the same refusals. It
// is for who looks at a device: it is on no record and takes no more than a
// viewer's role, and an answer of a moment ago will do.
func (c *Client) Probe(ctx context.Context, device string) (p api.Ping, err error) {
	return p, c.device(ctx, "probe", http.MethodGet, device, nil, &p, "probe")
}

func (c *Client) device(ctx context.Context, what, method, device string, in, out any, path ...string) error {
	if err := wire.ValidateDeviceID(device); err != nil {
		return hint.WithCode(err, hint.CodeUsage)
	}
	return c.do(ctx, what+" device "+device, method, in, out, append([]string{"v1", "devices", device}, path...)...)
}

// do makes one request; what names it in errors.
func (c *Client) do(ctx context.Context, what, method string, in, out any, path ...string) error {
	return c.ask(ctx, what, method, nil, in, out, path...)
}

func (c *Client) ask(ctx context.Context, what, method string, query url.Values, in, out any, path ...string) error {
	resp, err := c.send(ctx, c.http, what, method, query, in, path...)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return c.unreachable(ctx, what, err)
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		return refused(what, resp, data)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return notFleetServer(what, resp, err)
	}
	return nil
}

// send makes a request with a body in JSON, or none.
func (c *Client) send(ctx context.Context, through *http.Client, what, method string, query url.Values, in any, path ...string) (*http.Response, error) {
	r := outgoing{what: what, method: method, query: query, path: path, body: func() io.Reader { return nil }}
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		r.media, r.body = "application/json", func() io.Reader { return bytes.NewReader(data) }
	}
	return c.exchange(ctx, through, r)
}

// outgoing is a request; body makes its body anew each time that it is sent.
type outgoing struct {
	what, method string
	query        url.Values
	media        string
	body         func() io.Reader
	path         []string
}

// exchange gives the answer to one request, of whatever status; the caller
// closes its body. A refused token is renewed once.
func (c *Client) exchange(ctx context.Context, through *http.Client, r outgoing) (*http.Response, error) {
	token, err := c.token(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.what, err)
	}
	resp, err := c.once(ctx, through, r, token)
	if err != nil || resp.StatusCode != http.StatusUnauthorized || c.renew == nil {
		return resp, err
	}
	other, err := c.renew(ctx, token)
	if err != nil {
		_ = resp.Body.Close() // another answer takes its place
		return nil, fmt.Errorf("%s: %w", r.what, err)
	}
	if other == token {
		return resp, nil
	}
	_ = resp.Body.Close()
	return c.once(ctx, through, r, other)
}

func (c *Client) once(ctx context.Context, through *http.Client, r outgoing, token string) (*http.Response, error) {
	target := c.base.JoinPath(r.path...)
	target.RawQuery = r.query.Encode()
	req, err := http.NewRequestWithContext(ctx, r.method, target.String(), r.body())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.what, err)
	}
	req.Header.Set("Accept", "application/json")
	if r.media != "" {
		req.Header.Set("Content-Type", r.media)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := through.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, r.what, err)
	}
	return resp, nil
}

// unreachable sorts out why there was no answer.
func (c *Client) unreachable(ctx context.Context, what string, err error) error {
	var untrusted *tls.CertificateVerificationError
	wrapped := fmt.Errorf("%s: %w", what, err)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return wrapped
	case errors.As(err, &untrusted):
		return &hint.Error{Err: wrapped, Code: hint.CodeAuth,
			Hint: "the server at " + c.base.Host + " shows a certificate that its CA file does not vouch for; check the URL, or fetch ca.crt from the server anew"}
	}
	return &hint.Error{Err: wrapped, Code: hint.CodeUnreachable,
		Hint: "check that fleet-server runs and that " + c.base.Host + " can be reached from here"}
}

func refused(what string, resp *http.Response, data []byte) error {
	var body api.ErrorBody
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if media != "application/json" || json.Unmarshal(data, &body) != nil || body.Error.Code == "" {
		return notFleetServer(what, resp, nil)
	}
	return &hint.Error{Err: fmt.Errorf("%s: %w", what, &Error{resp.StatusCode, body.Error}),
		Hint: body.Error.Hint, Code: exitCode(body.Error.Code)}
}

func exitCode(code api.Code) int {
	switch code {
	case api.CodeUnauthorized, api.CodeForbidden:
		return hint.CodeAuth
	case api.CodeDeviceOffline, api.CodeDeviceNoAnswer, api.CodeNotReady:
		return hint.CodeUnreachable
	}
	return hint.CodeFailed
}

// notFleetServer is for an answer that no fleet-server gives: a proxy's page,
// another service on the port.
func notFleetServer(what string, resp *http.Response, cause error) error {
	err := error(&Error{resp.StatusCode, api.Error{Code: api.CodeUnknownResponse,
		Message: "what answers at " + resp.Request.URL.Host + " is no fleet-server (HTTP " + resp.Status + ")"}})
	if cause != nil {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	return &hint.Error{Err: fmt.Errorf("%s: %w", what, err), Code: hint.CodeUnreachable,
		Hint: "check the server's URL and any proxy in between"}
}
