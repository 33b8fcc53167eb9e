// Package libvirt is the hypervisor that vm describes, on libvirt and QEMU: it
// alone imports libvirt. It owns the domains that carry its metadata, the
// storage pool "fleet" with their volumes, and the delivery of first boot by a
// cloud-init seed disk; it touches nothing else of the host.
//
// libvirt is a C library. With cgo and the tag libvirt_dlopen it is loaded when
// the program starts, so that no headers are needed to build; otherwise Open says
// what is missing.
package libvirt

import (
	"log/slog"

	"github.com/nationtech/fleetctl/firmware"
)

// DefaultURI is the system's libvirt on this machine.
const DefaultURI = "qemu:///system"

// Config says which hypervisor, and what to work with.
type Config struct {
	URI      string          // "" is DefaultURI
	CacheDir string          // for locks between processes
	Firmware firmware.Finder // of this machine
	Log      *slog.Logger
	// Report tells a person what is being done or was decided, a line each.
	Report func(string)
}
