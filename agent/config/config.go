// Package config is the agent's configuration file: its shape, its defaults,
// how it is read and what is refused. It owns the format; onboarding writes it.
// It reads no environment variables and opens nothing that the file names.
package config

import (
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
)

// DefaultPath is where onboarding puts the file.
const DefaultPath = "/etc/fleet-agent/config.toml"

// Config is the whole file.
type Config struct {
	DeviceID    string            `toml:"device_id"`
	LogLevel    slog.Level        `toml:"log_level"` // debug, info, warn, error
	StateDir    string            `toml:"state_dir"`
	NATS        NATS              `toml:"nats"`
	Credentials Credentials       `toml:"credentials"`
	Labels      map[string]string `toml:"labels"`
	Podman      Podman            `toml:"podman"`
	Metrics     Metrics           `toml:"metrics"`
}

// Metrics is where a monitoring system on the device may ask the agent how it
// does. By default it may not.
type Metrics struct {
	// Listen is HOST:PORT of loopback, such as 127.0.0.1:9464, or the path of a
	// unix socket (mode 0660) in a directory that the agent may write to.
	// Empty: nowhere.
	Listen string `toml:"listen"`
}

// NATS is where the fleet's broker answers.
type NATS struct {
	URLs   []string `toml:"urls"`    // tls://HOST:PORT or wss://HOST:PORT; nats:// only on loopback
	CAFile string   `toml:"ca_file"` // PEM; empty means the system's roots
}

// CredentialType is how the agent proves who it is.
type CredentialType string

// The credential types.
const (
	CredentialOIDC CredentialType = "oidc" // access tokens, minted with the device's own key
	CredentialPSK  CredentialType = "psk"  // a pre-shared key in a file: laboratories
)

// Credentials are the agent's own secret and the keys that it trusts.
type Credentials struct {
	Type            CredentialType `toml:"type"`
	File            string         `toml:"file"`              // the key; package keyfile has the format
	SigningKeysFile string         `toml:"signing_keys_file"` // wire.PinnedKeys

	// For CredentialOIDC.
	Issuer  string `toml:"issuer"`  // https://HOST[:PORT], as in its tokens
	Project string `toml:"project"` // id of the fleet's project there
	CAFile  string `toml:"ca_file"` // PEM, of the issuer; empty means the system's roots
}

// Podman is how containers are run.
type Podman struct {
	Enabled            bool     `toml:"enabled"`
	Socket             string   `toml:"socket"`
	InsecureRegistries []string `toml:"insecure_registries"` // HOST[:PORT], spoken to in plain HTTP
}

// Default is what a file that says nothing means. uid is that of the agent's
// user, whose Podman socket is the default.
func Default(uid int) Config {
	return Config{
		LogLevel: slog.LevelInfo,
		StateDir: "/var/lib/fleet-agent",
		Podman: Podman{
			Enabled: true,
			Socket:  filepath.Join("/run/user", strconv.Itoa(uid), "podman/podman.sock"),
		},
	}
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
