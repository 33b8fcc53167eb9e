package apiclient

import (
	"context"
	"net/http"

	"github.com/nationtech/fleetctl/internal/join"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
)

// Joins lists the devices that wait for approval.
func (c *Client) Joins(ctx context.Context) (j api.Joins, err error) {
	return j, c.do(ctx, "list the devices that wait", http.MethodGet, nil, &j, "v1", "joins")
}

// ApproveJoin makes a waiting device, which shows this code, a device. It takes
// the administrator's role here and at the issuer. It may be
// api.CodeNoSuchJoin, CodeOtherMachine or CodeIssuer.
func (c *Client) ApproveJoin(ctx context.Context, device string, a join.Approval) (d api.Device, err error) {
	return d, c.device(ctx, "approve", http.MethodPost, device, a, &d, "join", "approve")
}

// DenyJoin turns away all that wait under an id.
func (c *Client) DenyJoin(ctx context.Context, device string) (d api.JoinsDenied, err error) {
	return d, c.device(ctx, "deny", http.MethodDelete, device, nil, &d, "join")
}
