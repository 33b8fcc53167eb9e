package testhost

import (
	"fmt"
	"time"
)

// HarnessIP is the address of the machine that runs the tests, as hosts see it.
const HarnessIP = "10.213.0.1"

// User is the login name of a host's ordinary user, who may use sudo without a
// password, as rpi-imager sets it up.
const User = "pi"

// Options are what a test wants of a host. The zero value is a bare bookworm.
type Options struct {
	Suite    string        // "bookworm" (Debian 12, the default) or "trixie" (Debian 13)
	Podman   bool          // Podman and what it needs rootless are installed already
	Hostname string        // default "testhost-N"
	Boot     time.Duration // how long sshd may take to answer; default 30 s
}

func (o Options) withDefaults(slot int) Options {
	if o.Suite == "" {
		o.Suite = "bookworm"
	}
	if o.Hostname == "" {
		o.Hostname = fmt.Sprintf("testhost-%d", slot)
	}
	if o.Boot == 0 {
		o.Boot = 30 * time.Second
	}
	return o
}

func (o Options) flavour() string {
	if o.Podman {
		return "podman"
	}
	return "base"
}
