package podman

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
)

// apiPrefix is the oldest version of the libpod API that Podman 4.3 and 5.x
// both serve.
const apiPrefix = "/v4.0.0/libpod"

// maxAnswer bounds an answer that is decoded as a whole, in bytes.
const maxAnswer = 16 << 20

// callTimeout bounds every call but pulls and stops, which take as long as
// they have to.
const callTimeout = time.Minute

// Client speaks the libpod REST API over a unix socket. Its methods do what
// they are told to any container: whose it is, Runtime checks.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient makes a client; nothing is dialled before the first call.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &Client{
		socket: socket,
		http: &http.Client{Transport: &http.Transport{
			DialContext: dial,
			// The service behind a socket unit goes away when it is idle, and
			// takes kept connections with it.
			IdleConnTimeout: 2 * time.Second,
		}},
	}
}

// APIError is Podman's own answer that something did not work.
type APIError struct {
	Status  int    `json:"response"`
	Message string `json:"message"`
	Cause   string `json:"cause"`
}

func (e *APIError) Error() string {
	text := e.Message
	if text == "" {
		text = e.Cause
	}
	if text == "" {
		text = http.StatusText(e.Status)
	}
	return strings.TrimSpace(text)
}

func hasStatus(err error, status int) bool {
	var e *APIError
	return errors.As(err, &e) && e.Status == status
}

// call sends one request and decodes the answer into out unless that is nil.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	resp, err := c.send(ctx, method, path, query, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
	} else {
		err = json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out)
	}
	if err != nil {
		return fmt.Errorf("read Podman's answer to %s %s: %w", method, path, err)
	}
	return nil
}

// send gives the response of a request that Podman accepted: 2xx, or 304 for
// what already is as asked. The caller closes its body.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode request for Podman: %w", err)
		}
		body = bytes.NewReader(data)
	}
	return c.sendWith(ctx, request{method: method, path: path, query: query, body: body})
}

// request is one call of Podman. Its content is JSON unless header says
// otherwise.
type request struct {
	method, path string
	query        url.Values
	header       http.Header
	body         io.Reader
}

// sendWith is send for what is no plain JSON.
func (c *Client) sendWith(ctx context.Context, r request) (*http.Response, error) {
	target := url.URL{Scheme: "http", Host: "podman", Path: apiPrefix + r.path, RawQuery: r.query.Encode()}
	req, err := http.NewRequestWithContext(ctx, r.method, target.String(), r.body)
	if err != nil {
		return nil, fmt.Errorf("make request for Podman: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	maps.Copy(req.Header, r.header)
	return c.do(req)
}

// do is send for a request that is made already.
func (c *Client) do(req *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if resp.StatusCode < 300 || resp.StatusCode == http.StatusNotModified {
		return resp, nil
	}
	defer resp.Body.Close()
	failed := &APIError{}
	data, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil || json.Unmarshal(data, failed) != nil {
		failed.Message = strings.TrimSpace(string(data))
	}
	failed.Status = resp.StatusCode
	return nil, failed
}

// unreachable drops the URL that net/http puts before the reason: the host in
// it is made up.
func (c *Client) unreachable(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return hint.Wrap(fmt.Errorf("reach Podman at %s: %w", c.socket, err),
		"systemctl --user enable --now podman.socket, as the agent's user with lingering on")
}

// Version is what Podman says of itself.
type Version struct {
	Version string `json:"Version"`
}

// Version asks for Podman's version, which also shows that it answers.
func (c *Client) Version(ctx context.Context) (Version, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var v Version
	if err := c.call(ctx, http.MethodGet, "/version", nil, nil, &v); err != nil {
		return v, fmt.Errorf("ask for Podman's version: %w", err)
	}
	return v, nil
}
