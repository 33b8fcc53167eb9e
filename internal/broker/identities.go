package broker

import (
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/nationtech/fleetctl/internal/broker/accounts"
)

// identity is a role with its key. Keys are made at each start and never leave
// the process: these users exist for in-process connections only.
type identity struct {
	accounts.Role
	key    nkeys.KeyPair
	public string
}

type identities map[string]identity

func newIdentities() (identities, error) {
	ids := identities{}
	for _, r := range accounts.Roles() {
		if r.Name == accounts.RoleWarden || r.Name == accounts.RoleWatcher {
			continue // one process needs one eye on connections
		}
		key, err := nkeys.CreateUser()
		if err != nil {
			return nil, fmt.Errorf("make key of %s: %w", r.Name, err)
		}
		public, err := key.PublicKey()
		if err != nil {
			return nil, fmt.Errorf("make key of %s: %w", r.Name, err)
		}
		ids[r.Name] = identity{r, key, public}
	}
	return ids, nil
}

func (ids identities) public() accounts.Keys {
	keys := accounts.Keys{}
	for name, id := range ids {
		keys[name] = id.public
	}
	return keys
}

// options are for a connection that lives as long as the broker.
func (i identity) options() []nats.Option {
	return []nats.Option{
		nats.Name("fleet-server " + i.Name),
		nats.Nkey(i.public, i.key.Sign),
		nats.CustomInboxPrefix(i.Inbox()),
		nats.MaxReconnects(-1),
		nats.ReconnectJitter(0, 0),
	}
}
