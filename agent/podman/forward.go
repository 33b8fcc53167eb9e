package podman

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nationtech/fleetctl/internal/wire"
)

const dialTimeout = 10 * time.Second

// Forward joins a TCP connection to a published port of a service with in and
// out. Others are in a network of their own, which the agent, unlike Podman,
// has no way into.
func (r *Runtime) Forward(ctx context.Context, req wire.ForwardRequest, in io.Reader, out io.Writer) error {
	c, err := r.running(ctx, req.Target)
	if err != nil {
		return err
	}
	address, err := r.client.published(ctx, c.ID, req.Port)
	if err != nil {
		return err
	}
	d := net.Dialer{Timeout: dialTimeout}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("reach port %d of %s: %w", req.Port, req.Deployment, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // unblocks both ways
	go func() {
		if _, err := io.Copy(conn, in); err == nil {
			_ = conn.(*net.TCPConn).CloseWrite() // it may have been closed from the other side
		}
	}()
	if _, err := io.Copy(out, conn); err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	return nil
}

// published gives the address on this device that leads to a container's port.
func (c *Client) published(ctx context.Context, id string, port uint16) (string, error) {
	var seen struct {
		NetworkSettings struct {
			Ports map[string][]struct {
				HostIP   string `json:"HostIp"`
				HostPort string `json:"HostPort"`
			}
		}
		HostConfig struct{ NetworkMode string }
	}
	if err := c.call(ctx, http.MethodGet, "/containers/"+id+"/json", nil, nil, &seen); err != nil {
		return "", fmt.Errorf("inspect container %s: %w", short(id), err)
	}
	want := strconv.Itoa(int(port))
	if seen.HostConfig.NetworkMode == "host" {
		return net.JoinHostPort("127.0.0.1", want), nil
	}
	var others []string
	for name, to := range seen.NetworkSettings.Ports {
		number, protocol, _ := strings.Cut(name, "/")
		if protocol != "tcp" || len(to) == 0 {
			continue
		}
		if number == want {
			host := to[0].HostIP
			if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
				host = "127.0.0.1"
			}
			return net.JoinHostPort(host, to[0].HostPort), nil
		}
		others = append(others, number)
	}
	slices.Sort(others)
	message := fmt.Sprintf("port %d is not published; published are: %s", port, strings.Join(others, ", "))
	if len(others) == 0 {
		message = fmt.Sprintf("port %d is not published, nor is any other", port)
	}
	return "", &wire.ReplyError{Code: wire.ReplyBadRequest, Message: message}
}
