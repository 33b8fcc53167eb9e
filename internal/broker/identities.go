package broker

import (
	"fmt"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/nationtech/fleetctl/internal/wire"
)

// role is one part of the control plane: what it is called, and what it may do.
type role struct {
	name      string
	account   string
	publish   []string
	subscribe []string
}

// inbox is the prefix of a role's inboxes. Devices' inboxes are in another
// account, and begin with another token.
func (r role) inbox() string { return "_INBOX_" + r.name }

// roles lists the least that each part needs. A connection that is taken over
// in one part of the control plane gets no further than that part.
func roles() []role {
	read := func(b wire.Bucket) []string { return []string{b.DirectGetSubject(">"), streamAPI("INFO", b)} }

	operator := role{name: "operator", account: wire.AccountFleet,
		publish: []string{wire.BucketDesired.Subject(">"), "$JS.FC.>"}}
	for _, b := range wire.Buckets() {
		operator.publish = append(operator.publish, read(b)...)
		operator.publish = append(operator.publish, streamAPI("PURGE", b), // to forget a key
			"$JS.API.CONSUMER.CREATE."+b.Stream()+".>", // to watch
			"$JS.API.CONSUMER.DELETE."+b.Stream()+".*",
			"$JS.API.CONSUMER.INFO."+b.Stream()+".*",
		)
	}

	api := role{name: "api", account: wire.AccountFleet,
		publish:   []string{wire.CommandSubject("*", "*")},
		subscribe: []string{wire.ReplySubject("*", "*")}}
	for _, b := range []wire.Bucket{wire.BucketState, wire.BucketInfo, wire.BucketHeartbeat} {
		api.publish = append(api.publish, read(b)...)
	}

	buckets := role{name: "buckets", account: wire.AccountFleet, publish: []string{"$JS.API.INFO"}}
	for _, b := range wire.Buckets() {
		buckets.publish = append(buckets.publish, streamAPI("INFO", b), streamAPI("CREATE", b), streamAPI("UPDATE", b))
	}

	return []role{
		operator, api, buckets,
		{name: "callout", account: wire.AccountSystem,
			publish:   []string{"$SYS._INBOX.>"}, // where servers wait for decisions
			subscribe: []string{"$SYS.REQ.USER.AUTH"}},
		{name: "presence", account: wire.AccountSystem,
			publish: []string{"$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.SERVER.*.KICK"},
			subscribe: []string{"$SYS.ACCOUNT." + wire.AccountDevices + ".CONNECT",
				"$SYS.ACCOUNT." + wire.AccountDevices + ".DISCONNECT"}},
	}
}

// streamAPI is a JetStream API subject of a bucket's stream.
func streamAPI(verb string, b wire.Bucket) string { return "$JS.API.STREAM." + verb + "." + b.Stream() }

// identity is a role with its key. Keys are made at each start and never leave
// the process: these users exist for in-process connections only.
type identity struct {
	role
	key    nkeys.KeyPair
	public string
}

type identities map[string]identity

func newIdentities() (identities, error) {
	ids := identities{}
	for _, r := range roles() {
		key, err := nkeys.CreateUser()
		if err != nil {
			return nil, fmt.Errorf("make key of %s: %w", r.name, err)
		}
		public, err := key.PublicKey()
		if err != nil {
			return nil, fmt.Errorf("make key of %s: %w", r.name, err)
		}
		ids[r.name] = identity{r, key, public}
	}
	return ids, nil
}

// publicKeys are the users that the auth callout is not asked about.
func (ids identities) publicKeys() []string {
	var keys []string
	for _, r := range roles() {
		keys = append(keys, ids[r.name].public)
	}
	return keys
}

func (ids identities) users(account string) []user {
	var users []user
	for _, r := range roles() {
		if r.account != account {
			continue
		}
		users = append(users, user{
			NKey: ids[r.name].public,
			Permissions: permissions{
				Publish:   allowed{r.publish},
				Subscribe: allowed{append([]string{r.inbox() + ".>"}, r.subscribe...)},
			},
			ConnectionTypes: []string{jwt.ConnectionTypeInProcess},
		})
	}
	return users
}

// options are for a connection that lives as long as the broker.
func (i identity) options() []nats.Option {
	return []nats.Option{
		nats.Name("fleet-server " + i.name),
		nats.Nkey(i.public, i.key.Sign),
		nats.CustomInboxPrefix(i.inbox()),
		nats.MaxReconnects(-1),
		nats.ReconnectJitter(0, 0),
	}
}
