package tunnel

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"github.com/gorilla/websocket"
)

// Client makes each request through a tunnel of its own. A server that knows of
// none gets the request itself.
type Client struct {
	Direct *http.Transport
}

// RoundTrip implements http.RoundTripper.
func (c *Client) RoundTrip(r *http.Request) (*http.Response, error) {
	through, response, err := c.dial(r)
	if response != nil && response.StatusCode == http.StatusNotFound {
		return c.Direct.RoundTrip(r)
	}
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close() // as a RoundTripper has to
		}
		return nil, err
	}
	inside := &http.Transport{DisableKeepAlives: true, Protocols: protocols(), HTTP2: pings(),
		DialContext: func(context.Context, string, string) (net.Conn, error) { return through, nil }}
	plain := r.Clone(r.Context())
	plain.URL.Scheme = "http" // the tunnel is inside of TLS
	answer, err := inside.RoundTrip(plain)
	if err != nil {
		_ = through.Close()
		return nil, err
	}
	answer.Request = r
	return answer, nil
}

func (c *Client) dial(r *http.Request) (net.Conn, *http.Response, error) {
	config := c.Direct.TLSClientConfig.Clone()
	config.NextProtos = []string{"http/1.1"} // which websockets are of
	dialer := websocket.Dialer{Proxy: c.Direct.Proxy, NetDialContext: c.Direct.DialContext, TLSClientConfig: config, HandshakeTimeout: c.Direct.TLSHandshakeTimeout}
	target := *r.URL
	target.Scheme, target.Path, target.RawPath, target.RawQuery = "wss", Path, "", ""
	ws, response, err := dialer.DialContext(r.Context(), target.String(), nil)
	if err != nil {
		if response != nil {
			err = fmt.Errorf("%w: %s", err, response.Status)
		}
		return nil, response, err
	}
	return &conn{Conn: ws}, response, nil
}
