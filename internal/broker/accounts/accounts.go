// Package accounts is what NATS servers have to be configured with: the
// accounts, what crosses between them, and what each part of the control plane
// may do. The embedded server and a cluster that somebody else runs get the
// same. It knows public keys alone, and starts nothing (internal/broker does).
//
// The configuration was attacked with real servers until nothing got through;
// change none of it without a new attack test there.
package accounts

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/jwt/v2"

	"github.com/nationtech/fleetctl/internal/wire"
)

// What one device's connection may use. A callout's user JWT cannot set these
// (the server ignores them there), so they are the account's.
const (
	maxDevicePayload       = 128 << 10 // bytes
	maxDeviceSubscriptions = 16
)

// void is where a device's publish ends on a subject that only the control
// plane speaks on. Nobody listens there.
const void = "_void."

// The shapes of nats-server's configuration file, as far as accounts go. The
// limits of an account can only be set through that file, not through
// server.Options; JSON is a subset of its syntax.
type (
	// File is the part of a server's configuration that is the fleet's.
	File struct {
		Accounts      map[string]Account `json:"accounts"`
		SystemAccount string             `json:"system_account"`
		Authorization *Authorization     `json:"authorization,omitempty"`
		MaxPayload    int32              `json:"max_payload,omitempty"`
		PingInterval  string             `json:"ping_interval,omitempty"`
		PingMax       int                `json:"ping_max,omitempty"`
	}
	// Account is one of accounts.
	Account struct {
		JetStream string            `json:"jetstream,omitempty"`
		Users     []User            `json:"users,omitempty"`
		Exports   []Export          `json:"exports,omitempty"`
		Imports   []Import          `json:"imports,omitempty"`
		Mappings  map[string]string `json:"mappings,omitempty"`
		Limits    *Limits           `json:"limits,omitempty"`
	}
	// Limits of an account's connections.
	Limits struct {
		MaxPayload       int `json:"max_payload"`
		MaxSubscriptions int `json:"max_subscriptions"`
	}
	// Export offers a service or a stream to accounts.
	Export struct {
		Service  string   `json:"service,omitempty"`
		Stream   string   `json:"stream,omitempty"`
		Accounts []string `json:"accounts"` // who may import it
	}
	// Import takes what another account exports.
	Import struct {
		Service *Source `json:"service,omitempty"`
		Stream  *Source `json:"stream,omitempty"`
	}
	// Source is where an import comes from.
	Source struct {
		Account string `json:"account"`
		Subject string `json:"subject"`
	}
	// User is a part of the control plane.
	User struct {
		NKey            string      `json:"nkey"`
		Permissions     Permissions `json:"permissions"`
		ConnectionTypes []string    `json:"allowed_connection_types"`
	}
	// Permissions of a user.
	Permissions struct {
		Publish   Allowed `json:"publish"`
		Subscribe Allowed `json:"subscribe"`
	}
	// Allowed lists subjects; what is not listed is denied.
	Allowed struct {
		Allow []string `json:"allow"`
	}
	// Authorization hands every other login to the callout.
	Authorization struct {
		Timeout     float64     `json:"timeout"` // seconds
		AuthCallout AuthCallout `json:"auth_callout"`
	}
	// AuthCallout is who decides, and who is not asked about (NATS ADR-26).
	AuthCallout struct {
		Issuer    string   `json:"issuer"`
		Account   string   `json:"account"`
		AuthUsers []string `json:"auth_users"`
		XKey      string   `json:"xkey"`
	}
)

// deviceServices are what a device may ask of FLEET; deviceStreams are what
// FLEET sends to devices. Both cross under the same subject and with wildcards
// only: through an import with a literal subject or a new name, the reply
// subject of a request crosses as well and writes a key.
func deviceServices() []string {
	return []string{
		wire.BucketState.Subject(wire.StateKey("*")),
		wire.BucketInfo.Subject(wire.InfoKey("*")),
		wire.BucketHeartbeat.Subject(wire.HeartbeatKey("*")),
		wire.BucketDesired.DirectGetSubject(">"),
		wire.ReplySubject("*", "*"),
	}
}

func deviceStreams() []string {
	return []string{wire.HintSubject("*"), wire.CommandSubject("*", "*")}
}

// viewerServices are what a viewer may ask of FLEET, under the same rule.
func viewerServices() []string {
	var all []string
	for _, b := range wire.Buckets() {
		all = append(all, b.DirectGetSubject(">"))
	}
	return all
}

// Keys are the public nkeys of the roles, by name.
type Keys map[string]string

// Embedded is the configuration of a server inside fleet-server, whose parts
// connect within the process.
func Embedded(keys Keys) File { return fleet(keys, jwt.ConnectionTypeInProcess) }

// External is the configuration of servers that the parts reach over the
// network: the same accounts, and the callout.
func External(keys Keys, callout CalloutKeys) File {
	f := fleet(keys, jwt.ConnectionTypeStandard)
	f.MaxPayload, f.PingInterval, f.PingMax = MaxPayload(), wire.PingInterval.String(), MaxPingsOut
	f.Authorization = &Authorization{
		Timeout: AuthTimeout.Seconds(),
		AuthCallout: AuthCallout{
			Issuer: callout.Issuer, XKey: callout.XKey, Account: wire.AccountSystem, AuthUsers: keys.Users(),
		},
	}
	return f
}

// CalloutKeys are the public halves of what the callout signs with, and of
// what requests to it are encrypted to.
type CalloutKeys struct{ Issuer, XKey string }

// AuthTimeout is how long a server waits for the callout. It has to outlast
// the queue there when a whole fleet comes back at once.
const AuthTimeout = 20 * time.Second

func fleet(keys Keys, connectionType string) File {
	fleet := Account{JetStream: "enabled", Users: keys.of(wire.AccountFleet, connectionType)}
	devices := Account{
		// The subject that answers go to (a publish's reply) is checked by
		// nobody. Without these two, a device drops bytes on another's hint
		// or command subject by naming it as the reply of a request.
		Mappings: map[string]string{
			"desired.>":         void + "desired.>",
			"device-commands.>": void + "device-commands.>",
		},
		Limits: &Limits{MaxPayload: maxDevicePayload, MaxSubscriptions: maxDeviceSubscriptions},
	}
	viewers := Account{Limits: devices.Limits}
	services := map[string][]string{} // who may import each
	for _, s := range deviceServices() {
		services[s] = append(services[s], wire.AccountDevices)
		devices.Imports = append(devices.Imports, Import{Service: &Source{wire.AccountFleet, s}})
	}
	for _, s := range viewerServices() {
		services[s] = append(services[s], wire.AccountViewers)
		viewers.Imports = append(viewers.Imports, Import{Service: &Source{wire.AccountFleet, s}})
	}
	for _, s := range slices.Sorted(maps.Keys(services)) {
		fleet.Exports = append(fleet.Exports, Export{Service: s, Accounts: services[s]})
	}
	for _, s := range deviceStreams() {
		fleet.Exports = append(fleet.Exports, Export{Stream: s, Accounts: []string{wire.AccountDevices}})
		devices.Imports = append(devices.Imports, Import{Stream: &Source{wire.AccountFleet, s}})
	}
	return File{
		Accounts: map[string]Account{
			wire.AccountFleet:   fleet,
			wire.AccountDevices: devices,
			wire.AccountViewers: viewers,
			wire.AccountSystem:  {Users: keys.of(wire.AccountSystem, connectionType)},
		},
		SystemAccount: wire.AccountSystem,
	}
}

// Encode gives the text that nats-server parses.
func (f File) Encode() (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // ">" is a wildcard
	if err := enc.Encode(f); err != nil {
		return "", fmt.Errorf("encode accounts: %w", err)
	}
	return b.String(), nil
}
