package broker

import (
	"context"

	"github.com/nats-io/nats-server/v2/server"

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
