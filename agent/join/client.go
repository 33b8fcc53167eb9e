package join

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
	protocol "github.com/nationtech/fleetctl/internal/join"
)

const (
	timeout   = 30 * time.Second
	maxAnswer = 1 << 20
)

// client speaks to the server, whose certificate has to be from one authority.
type client struct {
	base *url.URL
	http *http.Client
}

func newClient(server string, caPEM []byte) (*client, error) {
	base, err := url.Parse(server)
	if err != nil || base.Scheme != "https" || base.Host == "" {
		return nil, hint.WithCode(hint.New(fmt.Sprintf("server %q is not an https URL", server), "write it as https://HOST:PORT"), hint.CodeUsage)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(caPEM) {
		return nil, errors.New("the server's authority is not PEM")
	}
	return &client{base: base, http: &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
			TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func (c *client) add(ctx context.Context, r protocol.Request) (receipt protocol.Receipt, err error) {
	return receipt, c.do(ctx, http.MethodPost, "", r, &receipt, "v1", "joins")
}

func (c *client) reveal(ctx context.Context, receipt protocol.Receipt, nonce []byte) error {
	return c.do(ctx, http.MethodPut, receipt.Token, protocol.Reveal{Nonce: nonce}, &protocol.Status{}, "v1", "joins", receipt.ID)
}

func (c *client) status(ctx context.Context, receipt protocol.Receipt) (s protocol.Status, err error) {
	return s, c.do(ctx, http.MethodGet, receipt.Token, nil, &s, "v1", "joins", receipt.ID)
}

func (c *client) do(ctx context.Context, method, token string, in, out any, path ...string) error {
	const what = "ask to join"
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base.JoinPath(path...).String(), body)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return hint.WithCode(hint.Wrap(fmt.Errorf("%s: %w", what, err), "check the server's URL, and that it can be reached from here"), hint.CodeUnreachable)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if resp.StatusCode == http.StatusOK && json.Unmarshal(data, out) == nil {
		return nil
	}
	var refused struct {
		Error struct{ Message, Hint string }
	}
	switch {
	case resp.StatusCode == http.StatusNotFound && token != "":
		return errExpired
	case json.Unmarshal(data, &refused) != nil || refused.Error.Message == "":
		return hint.New(fmt.Sprintf("%s: what answers at %s is no fleet-server (HTTP %s)", what, c.base.Host, resp.Status), "check the server's URL: it is that of the HTTPS API")
	}
	return hint.Wrap(fmt.Errorf("%s: the server says: %s", what, refused.Error.Message), refused.Error.Hint)
}
