// Package deviceconfig writes the agent's configuration file, for onboarding and
// for a device that joined by itself, so that both write the same. Its format is
// package agent/config's; a test of package e2e has that strict parser read what
// is written here.
package deviceconfig

import (
	"fmt"
	"net"
	"path"
	"slices"
	"strconv"

	"github.com/pelletier/go-toml/v2"

	"github.com/nationtech/fleetctl/internal/devicekey"
)

// Where things are on a device, all in devicekey.Dir.
const (
	File         = devicekey.Dir + "/config.toml"
	CAFile       = devicekey.Dir + "/ca.pem"
	IssuerCAFile = devicekey.Dir + "/issuer-ca.pem" // where the issuer has another authority
	PSKFile      = devicekey.Dir + "/psk"           // laboratories
	KeysFile     = devicekey.Dir + "/signing-keys.json"
)

// header tells whoever opens the file where its content comes from.
const header = `# Written by fleetctl onboard, which writes it again when it is run again.
# What fleet-agent thinks of it: fleet-agent check-config
`

// Wish is what a device's configuration depends on.
type Wish struct {
	DeviceID           string
	Labels             map[string]string
	NATSURLs           []string
	CAPEM              string // "" when the system's authorities vouch for the broker
	Issuer             Issuer // zero: the device has a pre-shared key
	InsecureRegistries []string
	// MetricsListen is where a monitoring system on the device may ask the
	// agent: HOST:PORT of loopback, or the path of a socket. Empty: nowhere.
	MetricsListen string
}

// Issuer is where a device gets its access tokens.
type Issuer struct {
	URL     string
	Project string // id, the audience of tokens
	CAPEM   string // "" when the system's authorities vouch for it
}

type file struct {
	DeviceID    string            `toml:"device_id"`
	NATS        nats              `toml:"nats"`
	Credentials credentials       `toml:"credentials"`
	Labels      map[string]string `toml:"labels,omitempty"`
	Podman      *podman           `toml:"podman,omitempty"`
	Metrics     *metrics          `toml:"metrics,omitempty"`
}

type nats struct {
	URLs   []string `toml:"urls"`
	CAFile string   `toml:"ca_file,omitempty"`
}

type credentials struct {
	Type            string `toml:"type"`
	File            string `toml:"file"`
	SigningKeysFile string `toml:"signing_keys_file"`
	Issuer          string `toml:"issuer,omitempty"`
	Project         string `toml:"project,omitempty"`
	CAFile          string `toml:"ca_file,omitempty"` // of the issuer
}

type podman struct {
	InsecureRegistries []string `toml:"insecure_registries"`
}

type metrics struct {
	Listen string `toml:"listen"`
}

// CheckMetricsListen says what is wrong with a MetricsListen. The device's
// network is not to read the agent's figures: whoever is on the device may.
func CheckMetricsListen(address string) error {
	if address == "" || path.IsAbs(address) && path.Clean(address) == address {
		return nil
	}
	if host, port, err := net.SplitHostPort(address); err == nil {
		ip := net.ParseIP(host)
		n, err := strconv.ParseUint(port, 10, 16)
		if err == nil && n > 0 && (host == "localhost" || ip != nil && ip.IsLoopback()) {
			return nil
		}
	}
	return fmt.Errorf("%q is neither loopback with a port, like 127.0.0.1:9464, nor a clean absolute path of a socket", address)
}

// IssuerCA is the file with the issuer's authority: mostly the same as the
// broker's.
func (w Wish) IssuerCA() string {
	switch w.Issuer.CAPEM {
	case "":
		return ""
	case w.CAPEM:
		return CAFile
	}
	return IssuerCAFile
}

// Text is the file's content. The same wish gives the same text.
func (w Wish) Text() (string, error) {
	c := file{
		DeviceID:    w.DeviceID,
		NATS:        nats{URLs: w.NATSURLs},
		Credentials: credentials{Type: "psk", File: PSKFile, SigningKeysFile: KeysFile},
		Labels:      w.Labels,
	}
	if w.Issuer.URL != "" {
		c.Credentials = credentials{Type: "oidc", File: devicekey.IdentityFile, SigningKeysFile: KeysFile,
			Issuer: w.Issuer.URL, Project: w.Issuer.Project, CAFile: w.IssuerCA()}
	}
	if w.CAPEM != "" {
		c.NATS.CAFile = CAFile
	}
	if len(w.InsecureRegistries) > 0 {
		registries := slices.Sorted(slices.Values(w.InsecureRegistries))
		c.Podman = &podman{InsecureRegistries: slices.Compact(registries)}
	}
	if w.MetricsListen != "" {
		c.Metrics = &metrics{Listen: w.MetricsListen}
	}
	body, err := toml.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("write the agent's configuration: %w", err)
	}
	return header + "\n" + string(body), nil
}
