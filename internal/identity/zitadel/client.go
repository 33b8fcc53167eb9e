// Package zitadel is a client of the part of Zitadel's management API (v1,
// REST) that a fleet needs: projects, roles, apps, machine users with their keys,
// tokens and grants. The embedded issuer (internal/issuer) serves the same part,
// so moving to a Zitadel changes a URL. It keeps nothing: whatever is asked is
// asked of the issuer. What a fleet's objects are called is package fleetid's
// affair.
package zitadel

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
)

// ScopeAPI makes a token good for the management API: Zitadel wants itself among
// its audience. Personal access tokens need none.
const ScopeAPI = "urn:zitadel:iam:org:project:id:zitadel:aud"

const (
	apiPath   = "/management/v1"
	orgHeader = "x-zitadel-orgid"
	maxAnswer = 4 << 20
	pageSize  = 100
	timeout   = 30 * time.Second // of one request
)

// Token is a bearer token; it does not show.
type Token string

func (Token) String() string       { return "[redacted]" }
func (Token) GoString() string     { return "[redacted]" }
func (Token) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// Config says where the API is and as whom it is called.
type Config struct {
	Issuer string // https://HOST[:PORT]
	// OrgID is the organisation that is acted in; "" is the caller's own.
	OrgID      string
	Token      func(ctx context.Context) (Token, error)
	HTTPClient *http.Client // nil: http.DefaultClient
}

// Client is safe for concurrent use.
type Client struct {
	base  *url.URL
	org   string
	token func(ctx context.Context) (Token, error)
	http  *http.Client
}

// New makes a client. Nothing is asked yet.
func New(cfg Config) (*Client, error) {
	base, err := url.Parse(cfg.Issuer)
	if err != nil || base.Scheme != "https" || base.Host == "" || base.User != nil {
		return nil, hint.WithCode(hint.New(fmt.Sprintf("issuer %q is not an https URL", cfg.Issuer), "write it as https://HOST[:PORT]"), hint.CodeUsage)
	}
	client := &http.Client{}
	if cfg.HTTPClient != nil {
		*client = *cfg.HTTPClient
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // nobody else gets the token
	return &Client{base: base.JoinPath(apiPath), org: cfg.OrgID, token: cfg.Token, http: client}, nil
}

// call makes one request; path elements are escaped.
func (c *Client) call(ctx context.Context, what, method string, in, out any, path ...string) error {
	err := c.roundTrip(ctx, method, in, out, path...)
	if err != nil {
		return fmt.Errorf("%s: %w", what, c.explain(ctx, err))
	}
	return nil
}

func (c *Client) roundTrip(ctx context.Context, method string, in, out any, path ...string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	token, err := c.token(ctx)
	if err != nil {
		return err
	}
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	for i := range path {
		path[i] = url.PathEscape(path[i])
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base.JoinPath(path...).String(), body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+string(token))
	req.Header.Set("Accept", "application/json")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.org != "" {
		req.Header.Set(orgHeader, c.org)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return refusal(resp.StatusCode, data)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return errNotZitadel
	}
	return nil
}

var errNotZitadel = errors.New("the answer is not a management API's")

// search collects all pages. Zitadel leaves out an empty result, and counts
// that are zero; its numbers are text, as protobuf writes uint64.
func search[T any](ctx context.Context, c *Client, what string, queries []any, path ...string) ([]T, error) {
	var all []T
	for {
		in := map[string]any{"query": map[string]any{"offset": strconv.Itoa(len(all)), "limit": pageSize, "asc": true}}
		if len(queries) > 0 {
			in["queries"] = queries
		}
		var out struct {
			Details struct {
				TotalResult json.RawMessage `json:"totalResult"`
			} `json:"details"`
			Result []T `json:"result"`
		}
		if err := c.call(ctx, what, http.MethodPost, in, &out, append(append([]string{}, path...), "_search")...); err != nil {
			return nil, err
		}
		all = append(all, out.Result...)
		total, _ := strconv.Atoi(strings.Trim(string(out.Details.TotalResult), `"`)) // left out when it is 0
		if len(out.Result) == 0 || len(all) >= total {
			return all, nil
		}
	}
}

// equals asks for exactly this text, whatever the default is.
func equals(query, field, value string) any {
	return map[string]any{query: map[string]string{field: value, "method": "TEXT_QUERY_METHOD_EQUALS"}}
}
