package apiclient

import (
	"context"
	"net/http"

	"github.com/nationtech/fleetctl/internal/serverapi/api"
)

// SigningKey tells with what the control plane signs, and how far a rotation is.
func (c *Client) SigningKey(ctx context.Context) (k api.SigningKey, err error) {
	return k, c.do(ctx, "ask for the signing key", http.MethodGet, nil, &k, "v1", "signing-key")
}

// RotateSigningKey begins a rotation. It may be api.CodeRotation.
func (c *Client) RotateSigningKey(ctx context.Context) (k api.SigningKey, err error) {
	return k, c.rotation(ctx, "begin", http.MethodPost, &k)
}

// FinishRotation drops the old key. While devices lack the new one it is
// api.CodeKeyLacking, unless forced; without a rotation api.CodeRotation.
func (c *Client) FinishRotation(ctx context.Context, force bool) (k api.SigningKey, err error) {
	step := "finish"
	if force {
		step = "force"
	}
	return k, c.rotation(ctx, "finish", http.MethodPost, &k, step)
}

// CancelRotation goes back to the old key. It may be api.CodeRotation.
func (c *Client) CancelRotation(ctx context.Context) (k api.SigningKey, err error) {
	return k, c.rotation(ctx, "cancel", http.MethodDelete, &k)
}

func (c *Client) rotation(ctx context.Context, what, method string, out *api.SigningKey, step ...string) error {
	return c.do(ctx, what+" the rotation of the signing key", method, nil, out, append([]string{"v1", "signing-key", "rotation"}, step...)...)
}
