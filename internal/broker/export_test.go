package broker

import (
	"context"
	"net"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleetctl/internal/broker/accounts"
	"github.com/nationtech/fleetctl/internal/wire"
)

// Server lets the judge of the attacks see all of the server.
func (b *Broker) Server() *server.Server { return b.srv }

// StartWithoutMappings undoes the protection of hints and commands.
func StartWithoutMappings(ctx context.Context, cfg Config) (*Broker, error) {
	return start(ctx, cfg, func(keys accounts.Keys) accounts.File {
		f := accounts.Embedded(keys)
		devices := f.Accounts[wire.AccountDevices]
		devices.Mappings = nil
		f.Accounts[wire.AccountDevices] = devices
		return f
	})
}

// ConnectCalloutThrough is ConnectCallout over a connection that the test sees.
func (b *Broker) ConnectCalloutThrough(see func(net.Conn) net.Conn) (*nats.Conn, error) {
	nc, err := nats.Connect("", append(b.ids[accounts.RoleCallout].options(), nats.InProcessServer(seen{b.srv, see}))...)
	if err == nil {
		b.conns = append(b.conns, nc)
	}
	return nc, err
}

type seen struct {
	srv *server.Server
	see func(net.Conn) net.Conn
}

func (s seen) InProcessConn() (net.Conn, error) {
	conn, err := s.srv.InProcessConn()
	if err != nil {
		return nil, err
	}
	return s.see(conn), nil
}
