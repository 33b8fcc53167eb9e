//go:build cgo && libvirt_dlopen

package libvirt

import (
	"context"
	"fmt"
	"io"

	"libvirt.org/go/libvirt"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/vm"
)

var _ vm.Console = (*Hypervisor)(nil)

// OpenConsole implements vm.Console. Whoever was attached before is detached.
func (h *Hypervisor) OpenConsole(_ context.Context, name string) (io.ReadWriteCloser, error) {
	domain, err := h.lookup(name)
	if err != nil {
		return nil, err
	}
	defer domain.Free()
	stream, err := h.conn.NewStream(0)
	if err != nil {
		return nil, fmt.Errorf("open a stream: %w", plain(err))
	}
	if err := domain.OpenConsole("", stream, libvirt.DOMAIN_CONSOLE_FORCE); err != nil {
		stream.Free()
		if is(err, libvirt.ERR_OPERATION_INVALID) {
			return nil, hint.Wrap(fmt.Errorf("virtual machine %s does not run", name), "start it: fleetctl vm start "+name)
		}
		return nil, fmt.Errorf("open the console of %s: %w", name, plain(err))
	}
	return &consoleStream{stream}, nil
}

// consoleStream is a libvirt stream as Go knows them.
type consoleStream struct{ stream *libvirt.Stream }

func (c *consoleStream) Read(p []byte) (int, error) {
	n, err := c.stream.Recv(p)
	if err != nil {
		return 0, plain(err)
	}
	if n <= 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (c *consoleStream) Write(p []byte) (int, error) {
	written := 0
	for written < len(p) {
		n, err := c.stream.Send(p[written:])
		if err != nil {
			return written, plain(err)
		}
		written += n
	}
	return written, nil
}

// Close ends the stream. It is not freed: a Read may still be inside it.
func (c *consoleStream) Close() error { return plain(c.stream.Abort()) }
