package broker

import "github.com/nats-io/nats-server/v2/server"

// Server lets the judge of the attacks see all of the server.
func (b *Broker) Server() *server.Server { return b.srv }
