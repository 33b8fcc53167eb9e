//go:build !cgo || !libvirt_dlopen

package libvirt

import (
	"context"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/vm"
)

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
	return nil, hint.New("this fleetctl was built without libvirt, so it has no virtual machines",
		"build it with cgo: make build, or CGO_ENABLED=1 go build -tags libvirt_dlopen ./cmd/fleetctl")
}

// Close does nothing.
func (*Hypervisor) Close() error { return nil }
