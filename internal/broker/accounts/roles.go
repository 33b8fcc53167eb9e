package accounts

import (
	"github.com/nationtech/fleetctl/internal/wire"
)

// Role is one part of the control plane: what it is called, and what it may do.
type Role struct {
	Name      string
	Account   string
	Publish   []string
	Subscribe []string
}

// The roles.
const (
	RoleOperator = "operator" // writes desired state, watches reports
	RoleAPI      = "api"      // sends commands, reads reports
	RoleBuckets  = "buckets"  // makes the buckets
	RoleCallout  = "callout"  // hears authorization requests
	RolePresence = "presence" // hears connects, disconnects devices
	RoleWarden   = "warden"   // the same, for a callout that is a process of its own
	RoleWatcher  = "watcher"  // and for an operator that is one

	// Let in by the callout alone:
	RoleAdmin  = "admin"  // repairs the buckets by hand
	RoleViewer = "viewer" // reads
)

// Inbox is the prefix of a role's inboxes. Devices' inboxes are in another
// account, and begin with another token.
func (r Role) Inbox() string { return Inbox(r.Name) }

// Inbox is the prefix of the inboxes of the role of that name.
func Inbox(role string) string { return "_INBOX_" + role }

// Roles lists the least that each part needs. A connection that is taken over
// in one part of the control plane gets no further than that part.
func Roles() []Role {
	read := func(b wire.Bucket) []string { return []string{b.DirectGetSubject(">"), streamAPI("INFO", b)} }

	operator := Role{Name: RoleOperator, Account: wire.AccountFleet,
		Publish: []string{wire.BucketDesired.Subject(">"), "$JS.FC.>"}}
	for _, b := range wire.Buckets() {
		operator.Publish = append(operator.Publish, read(b)...)
		operator.Publish = append(operator.Publish, streamAPI("PURGE", b), // to forget a key
			"$JS.API.CONSUMER.CREATE."+b.Stream()+".>", // to watch
			"$JS.API.CONSUMER.DELETE."+b.Stream()+".*",
			"$JS.API.CONSUMER.INFO."+b.Stream()+".*",
		)
	}

	api := Role{Name: RoleAPI, Account: wire.AccountFleet,
		Publish:   []string{wire.CommandSubject("*", "*")},
		Subscribe: []string{wire.ReplySubject("*", "*")}}
	for _, b := range []wire.Bucket{wire.BucketState, wire.BucketInfo, wire.BucketHeartbeat} {
		api.Publish = append(api.Publish, read(b)...)
	}

	buckets := Role{Name: RoleBuckets, Account: wire.AccountFleet, Publish: []string{"$JS.API.INFO"}}
	for _, b := range wire.Buckets() {
		buckets.Publish = append(buckets.Publish, streamAPI("INFO", b), streamAPI("CREATE", b), streamAPI("UPDATE", b), streamAPI("DELETE", b))
	}

	links := func(name string) Role {
		return Role{Name: name, Account: wire.AccountSystem,
			Publish: []string{"$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.SERVER.*.KICK"},
			Subscribe: []string{"$SYS.ACCOUNT." + wire.AccountDevices + ".CONNECT",
				"$SYS.ACCOUNT." + wire.AccountDevices + ".DISCONNECT"}}
	}
	return []Role{
		operator, api, buckets, links(RolePresence), links(RoleWarden), links(RoleWatcher),
		{Name: RoleCallout, Account: wire.AccountSystem,
			Publish:   []string{"$SYS._INBOX.>"}, // where servers wait for decisions
			Subscribe: []string{"$SYS.REQ.USER.AUTH"}},
	}
}

// ByToken gives a role that the callout may let in by an access token. What
// concerns the servers themselves is none.
func ByToken(name string) (Role, bool) {
	for _, r := range append(Roles(), admin(), viewer()) {
		if r.Name == name && r.Account != wire.AccountSystem {
			return r, true
		}
	}
	return Role{}, false
}

func admin() Role {
	r := Role{Name: RoleAdmin, Account: wire.AccountFleet,
		Publish: []string{"$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.FC.>"}}
	for _, b := range wire.Buckets() {
		for _, verb := range []string{"INFO", "PURGE", "MSG.GET", "LEADER.STEPDOWN"} {
			r.Publish = append(r.Publish, streamAPI(verb, b))
		}
		r.Publish = append(r.Publish, b.DirectGetSubject(">"), "$JS.API.CONSUMER.*."+b.Stream(), "$JS.API.CONSUMER.*."+b.Stream()+".>")
	}
	return r
}

// viewer is in an account of its own: see wire.AccountViewers.
func viewer() Role {
	return Role{Name: RoleViewer, Account: wire.AccountViewers, Publish: viewerServices()}
}

// Permissions are the subjects of the role's connections.
func (r Role) Permissions() wire.Permissions {
	return wire.Permissions{Publish: r.Publish, Subscribe: append([]string{r.Inbox() + ".>"}, r.Subscribe...)}
}

// streamAPI is a JetStream API subject of a bucket's stream.
func streamAPI(verb string, b wire.Bucket) string { return "$JS.API.STREAM." + verb + "." + b.Stream() }

// Users are those that the callout is not asked about.
func (k Keys) Users() []string {
	var users []string
	for _, r := range Roles() {
		if key := k[r.Name]; key != "" {
			users = append(users, key)
		}
	}
	return users
}

func (k Keys) of(account, connectionType string) []User {
	var users []User
	for _, r := range Roles() {
		if r.Account != account || k[r.Name] == "" {
			continue
		}
		users = append(users, User{
			NKey: k[r.Name],
			Permissions: Permissions{
				Publish:   Allowed{r.Publish},
				Subscribe: Allowed{append([]string{r.Inbox() + ".>"}, r.Subscribe...)},
			},
			ConnectionTypes: []string{connectionType},
		})
	}
	return users
}
