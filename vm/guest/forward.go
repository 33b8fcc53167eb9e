package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
)

// Forward passes connections that arrive at listener on to an address as the
// guest sees it, until ctx ends. Failures of single connections go to report.
func (c *Client) Forward(ctx context.Context, listener net.Listener, address string, report func(error)) error {
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	for {
		conn, err := listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("accept connections: %w", err)
		}
		go func() {
			if err := c.join(ctx, conn, address); err != nil && ctx.Err() == nil {
				report(err)
			}
		}()
	}
}

// join carries one connection; each direction is closed when its end is read.
func (c *Client) join(ctx context.Context, conn net.Conn, address string) error {
	defer conn.Close()
	far, err := c.DialContext(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("connect to %s in the guest: %w", address, err)
	}
	defer far.Close()
	type halfCloser interface{ CloseWrite() error }
	copied := make(chan error, 2)
	pass := func(to, from net.Conn) {
		_, err := io.Copy(to, from)
		if half, ok := to.(halfCloser); ok {
			err = errors.Join(err, half.CloseWrite())
		}
		copied <- err
	}
	go pass(far, conn)
	go pass(conn, far)
	if err := <-copied; err != nil {
		return err
	}
	return <-copied
}
