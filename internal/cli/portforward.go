package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
	"github.com/nationtech/fleetctl/internal/wire"
)

type portForwardOptions struct {
	device  string
	service wire.Target
	address string
	ports   []portPair
}

// portPair is LOCAL:REMOTE.
type portPair struct{ local, remote uint16 }

func newPortForwardCmd(f *Factory) *cobra.Command {
	var o portForwardOptions
	cmd := &cobra.Command{
		Use:   "port-forward DEVICE SERVICE [LOCAL:]REMOTE...",
		Short: "Reach a service's TCP port on a device from this machine",
		Long: `Reach a service's TCP port on a device from this machine, through the control
plane, until ctrl-C. SERVICE is a deployment, or DEPLOYMENT/SERVICE where it has several.
REMOTE is a port in the container that the deployment publishes; LOCAL is the
same by default, and 0 means any that is free.`,
		Example: "  fleetctl port-forward pi-1 web 8080:80\n  fleetctl port-forward pi-1 shop/db 0:5432 -o json",
		Args:    cobra.MinimumNArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.device, o.service = args[0], serviceTarget(args[1])
			for _, text := range args[2:] {
				pair, err := parsePorts(text)
				if err != nil {
					return err
				}
				o.ports = append(o.ports, pair)
			}
			return runPortForward(cmd.Context(), f, o)
		},
	}
	cmd.Flags().StringVar(&o.address, "address", "127.0.0.1", "local `address` to listen on; others may connect to what is not loopback")
	return cmd
}

func parsePorts(text string) (portPair, error) {
	local, remote, found := strings.Cut(text, ":")
	if !found {
		remote = local
	}
	l, errLocal := strconv.ParseUint(local, 10, 16)
	r, errRemote := strconv.ParseUint(remote, 10, 16)
	if errLocal != nil || errRemote != nil || r == 0 {
		return portPair{}, usageError(fmt.Errorf("%q is not [LOCAL:]REMOTE", text), "for example: 8080:80")
	}
	return portPair{uint16(l), uint16(r)}, nil
}

// forwarding is printed for each port once it listens.
type forwarding struct {
	SchemaVersion int    `json:"schemaVersion"`
	DeviceID      string `json:"deviceId"`
	Local         string `json:"local"` // HOST:PORT
	Remote        uint16 `json:"remote"`
}

func runPortForward(ctx context.Context, f *Factory, o portForwardOptions) error {
	if err := o.service.Validate(); err != nil {
		return usageError(err, "see which there are: fleetctl get deployments")
	}
	api, err := f.API()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p := &forwarder{Factory: f, api: api, portForwardOptions: o, fail: cancel}
	defer p.connections.Wait()
	for _, pair := range o.ports {
		if err := p.listen(ctx, pair); err != nil {
			cancel(nil)
			return err
		}
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// forwarder is a port-forward under way.
type forwarder struct {
	*Factory
	portForwardOptions
	api         *apiclient.Client
	fail        context.CancelCauseFunc
	connections sync.WaitGroup
}

func (p *forwarder) listen(ctx context.Context, pair portPair) error {
	address := net.JoinHostPort(p.address, strconv.Itoa(int(pair.local)))
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return hint.Wrap(fmt.Errorf("listen on %s: %w", address, err), "choose another local port, or 0 for any that is free")
	}
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	p.connections.Go(func() { p.accept(ctx, listener, pair.remote) })
	ready := forwarding{1, p.device, listener.Addr().String(), pair.remote}
	return p.event(ready, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s leads to port %d of %s on %s\n", ready.Local, ready.Remote, p.service.Deployment, p.device)
		return err
	})
}

// accept joins each local connection with one on the device. What goes wrong
// with one is told, and ends that one alone.
func (p *forwarder) accept(ctx context.Context, l net.Listener, port uint16) {
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() == nil {
				p.fail(fmt.Errorf("accept a connection: %w", err))
			}
			return
		}
		p.connections.Go(func() {
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // ends the reading of it
			err := p.api.Forward(ctx, p.device, wire.ForwardRequest{Target: p.service, Port: port}, conn, conn)
			if err != nil && ctx.Err() == nil {
				printError(p.Err, p.ColorErr(), err)
			}
		})
	}
}
