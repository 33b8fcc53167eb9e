package broker

import (
	"bytes"
	"encoding/json"
	"fmt"

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
	accountsFile struct {
		Accounts      map[string]account `json:"accounts"`
		SystemAccount string             `json:"system_account"`
	}
	account struct {
		JetStream string            `json:"jetstream,omitempty"`
		Users     []user            `json:"users,omitempty"`
		Exports   []export          `json:"exports,omitempty"`
		Imports   []imported        `json:"imports,omitempty"`
		Mappings  map[string]string `json:"mappings,omitempty"`
		Limits    *accountLimits    `json:"limits,omitempty"`
	}
	accountLimits struct {
		MaxPayload       int `json:"max_payload"`
		MaxSubscriptions int `json:"max_subscriptions"`
	}
	export struct {
		Service  string   `json:"service,omitempty"`
		Stream   string   `json:"stream,omitempty"`
		Accounts []string `json:"accounts"` // who may import it
	}
	imported struct {
		Service *source `json:"service,omitempty"`
		Stream  *source `json:"stream,omitempty"`
	}
	source struct {
		Account string `json:"account"`
		Subject string `json:"subject"`
	}
	user struct {
		NKey            string      `json:"nkey"`
		Permissions     permissions `json:"permissions"`
		ConnectionTypes []string    `json:"allowed_connection_types"`
	}
	permissions struct {
		Publish   allowed `json:"publish"`
		Subscribe allowed `json:"subscribe"`
	}
	allowed struct {
		Allow []string `json:"allow"`
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

// fleetAccounts is the accounts part of the server's configuration.
func fleetAccounts(ids identities) accountsFile {
	fleet := account{JetStream: "enabled", Users: ids.users(wire.AccountFleet)}
	devices := account{
		// The subject that answers go to (a publish's reply) is checked by
		// nobody. Without these two, a device drops bytes on another's hint
		// or command subject by naming it as the reply of a request.
		Mappings: map[string]string{
			"desired.>":         void + "desired.>",
			"device-commands.>": void + "device-commands.>",
		},
		Limits: &accountLimits{MaxPayload: maxDevicePayload, MaxSubscriptions: maxDeviceSubscriptions},
	}
	only := []string{wire.AccountDevices}
	for _, s := range deviceServices() {
		fleet.Exports = append(fleet.Exports, export{Service: s, Accounts: only})
		devices.Imports = append(devices.Imports, imported{Service: &source{wire.AccountFleet, s}})
	}
	for _, s := range deviceStreams() {
		fleet.Exports = append(fleet.Exports, export{Stream: s, Accounts: only})
		devices.Imports = append(devices.Imports, imported{Stream: &source{wire.AccountFleet, s}})
	}
	return accountsFile{
		Accounts: map[string]account{
			wire.AccountFleet:   fleet,
			wire.AccountDevices: devices,
			wire.AccountSystem:  {Users: ids.users(wire.AccountSystem)},
		},
		SystemAccount: wire.AccountSystem,
	}
}

// encode gives the text that nats-server parses.
func (f accountsFile) encode() (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // ">" is a wildcard
	if err := enc.Encode(f); err != nil {
		return "", fmt.Errorf("encode accounts: %w", err)
	}
	return b.String(), nil
}
