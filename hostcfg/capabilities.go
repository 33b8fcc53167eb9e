package hostcfg

import (
	"context"
	"io"
)

// Bus is a Host through which its systemd can be spoken to over D-Bus. It is
// optional: without it, or when it fails, units are changed with systemctl.
type Bus interface {
	// SystemBus opens a byte stream to the system bus as root, usually the
	// pipes of a systemd-stdio-bridge process, before any authentication.
	// Each call gives an independent stream (go-systemd wants two). Closing
	// the stream ends the bridge; ctx bounds opening it, not its life.
	SystemBus(ctx context.Context) (io.ReadWriteCloser, error)
}

// Reconnector is a Host that can be reached again after a reboot. It is
// optional: a plan with a reboot is refused on a host that lacks it.
type Reconnector interface {
	// Reconnect drops what is left of the connection and dials until the
	// host answers and accepts us, or ctx ends; the error then quotes the
	// last attempt. It does not know whether the host has really rebooted:
	// the caller compares /proc/sys/kernel/random/boot_id.
	Reconnect(ctx context.Context) error
}
