//go:build cgo && libvirt_dlopen

package libvirt

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"

	"libvirt.org/go/libvirt"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/vm"
)

// Linked says whether libvirt is in this program.
const Linked = true

// Hypervisor is a connection to a libvirt.
type Hypervisor struct {
	Config
	conn   *libvirt.Connect
	remote bool
}

var (
	_ vm.Hypervisor    = (*Hypervisor)(nil)
	_ vm.ConsoleReader = (*Hypervisor)(nil)
)

// Open connects. The connection is kept alive, so that a remote that went away
// is noticed within half a minute.
func Open(ctx context.Context, c Config) (*Hypervisor, error) {
	if c.URI == "" {
		c.URI = DefaultURI
	}
	if c.Report == nil {
		c.Report = func(string) {}
	}
	uri, err := url.Parse(c.URI)
	if err != nil || !strings.HasPrefix(uri.Scheme, "qemu") {
		return nil, hint.WithCode(hint.New(fmt.Sprintf("%q is not the address of a QEMU hypervisor", c.URI),
			"use --connect qemu:///system or qemu+ssh://USER@HOST/system"), hint.CodeUsage)
	}
	h := &Hypervisor{Config: c, remote: uri.Host != ""}
	// Connecting through SSH can take its time, and libvirt cannot be
	// interrupted: when ctx ends first, the attempt is left behind.
	done := make(chan error, 1)
	go func() {
		conn, err := libvirt.NewConnect(c.URI)
		h.conn = conn
		done <- err
	}()
	select {
	case err = <-done:
	case <-ctx.Done():
		return nil, fmt.Errorf("connect to libvirt at %s: %w", c.URI, ctx.Err())
	}
	if err != nil {
		return nil, hint.WithCode(hint.Wrap(fmt.Errorf("connect to libvirt at %s: %w", c.URI, plain(err)), "see what is missing with: fleetctl doctor"), hint.CodeUnreachable)
	}
	if err := os.MkdirAll(c.CacheDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the cache directory: %w", err)
	}
	return h, nil
}

// Close ends the connection; machines go on running.
func (h *Hypervisor) Close() error {
	_, err := h.conn.Close()
	return plain(err)
}
