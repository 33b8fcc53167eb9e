// Package onboard makes a host a device, and a device a plain host again. It
// owns what that means: which packages, user, files and units, in what order,
// what is asked of the control plane, and when a device counts as alive. How a
// host is changed is hostcfg's affair, how it is reached its implementations',
// and talking to people that of the command line.
//
// What a device has afterwards:
//
//	packages   Podman and what it needs without root
//	account    fleet-agent, with subordinate ids, lingering, its Podman socket
//	binary     /usr/local/lib/fleet-agent/VERSION/fleet-agent behind /usr/local/bin/fleet-agent
//	/etc/fleet-agent
//	           config.toml, ca.pem, signing-keys.json; identity.json and sealing.key, made on the device
//	unit       fleet-agent.service, hardened
package onboard

import (
	"github.com/nationtech/fleetctl/internal/deviceconfig"
	"github.com/nationtech/fleetctl/internal/devicekey"
)

// Where things are on a device.
const (
	User       = "fleet-agent"
	Home       = "/var/lib/fleet-agent" // the account's home, and the agent's state
	ConfigDir  = devicekey.Dir
	ConfigFile = deviceconfig.File
	LibDir     = "/usr/local/lib/fleet-agent"
	Binary     = "/usr/local/bin/fleet-agent"
	Unit       = "fleet-agent.service"

	podmanSocket = "podman.socket"
	hostsFile    = "/etc/hosts"
	hostsBlock   = "fleetctl"
)
