//go:build !cgo || !libvirt_dlopen

package libvirt

import (
	"context"

	"github.com/nationtech/fleetctl/internal/beside"
	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/vm"
)

// Linked says whether libvirt is in this program.
const Linked = false

// Hypervisor is libvirt; in this build there is none, and Open gives none.
type Hypervisor struct {
	vm.Hypervisor
	vm.ConsoleReader
	vm.Console
	vm.Snapshotter
	vm.Resizer
	vm.Prober
}

// Open says that this program was built without libvirt.
func Open(context.Context, Config) (*Hypervisor, error) {
	return nil, hint.New("this fleetctl was built without libvirt, and there is no fleetctl-vm "+beside.Places+", which has it",
		"build both with make build, or CGO_ENABLED=1 go build -tags libvirt_dlopen -o fleetctl-vm ./cmd/fleetctl")
}

// Close does nothing.
func (*Hypervisor) Close() error { return nil }
