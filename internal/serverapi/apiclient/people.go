package apiclient

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/nationtech/fleetctl/internal/serverapi/api"
)

// SignIn asks what is needed to sign in; it takes no token.
func (c *Client) SignIn(ctx context.Context) (s api.SignIn, err error) {
	return s, c.do(ctx, "ask the server how to sign in", http.MethodGet, nil, &s, "v1", "signin")
}

// AuditQuery says which records are wanted; what is empty matches all.
type AuditQuery struct {
	Since  time.Time
	Device string
	User   string
	Limit  int
}

// Audit reads the audit log; it takes the administrator's role.
func (c *Client) Audit(ctx context.Context, q AuditQuery) (a api.Audit, err error) {
	query := url.Values{}
	if !q.Since.IsZero() {
		query.Set("since", q.Since.UTC().Format(time.RFC3339))
	}
	if q.Device != "" {
		query.Set("device", q.Device)
	}
	if q.User != "" {
		query.Set("user", q.User)
	}
	if q.Limit > 0 {
		query.Set("limit", strconv.Itoa(q.Limit))
	}
	return a, c.ask(ctx, "read the audit log", http.MethodGet, query, nil, &a, "v1", "audit")
}
