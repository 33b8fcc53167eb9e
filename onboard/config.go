package onboard

import (
	"fmt"
	"slices"

	"github.com/pelletier/go-toml/v2"
)

// configHeader tells whoever opens the file where its content comes from.
const configHeader = `# Written by fleetctl onboard, which writes it again when it is run again.
# What fleet-agent thinks of it: fleet-agent check-config
`

// agentConfig is the part of the agent's configuration that onboarding decides.
// The format is the agent's (package agent/config); a test of package e2e has
// the agent's strict parser read what is written here.
type agentConfig struct {
	DeviceID    string            `toml:"device_id"`
	NATS        natsConfig        `toml:"nats"`
	Credentials credentialsConfig `toml:"credentials"`
	Labels      map[string]string `toml:"labels,omitempty"`
	Podman      *podmanConfig     `toml:"podman,omitempty"`
}

type natsConfig struct {
	URLs   []string `toml:"urls"`
	CAFile string   `toml:"ca_file,omitempty"`
}

type credentialsConfig struct {
	Type            string `toml:"type"`
	File            string `toml:"file"`
	SigningKeysFile string `toml:"signing_keys_file"`
}

type podmanConfig struct {
	InsecureRegistries []string `toml:"insecure_registries"`
}

// ConfigText is the device's configuration file. The same device gives the
// same text.
func (d *Device) ConfigText() (string, error) {
	c := agentConfig{
		DeviceID:    d.ID,
		NATS:        natsConfig{URLs: d.Enrolment.NATSURLs},
		Credentials: credentialsConfig{Type: "psk", File: pskFile, SigningKeysFile: keysFile},
		Labels:      d.Labels,
	}
	if d.Enrolment.CAPEM != "" {
		c.NATS.CAFile = caFile
	}
	if len(d.InsecureRegistries) > 0 {
		registries := slices.Sorted(slices.Values(d.InsecureRegistries))
		c.Podman = &podmanConfig{InsecureRegistries: slices.Compact(registries)}
	}
	body, err := toml.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("write the agent's configuration: %w", err)
	}
	return configHeader + "\n" + string(body), nil
}
