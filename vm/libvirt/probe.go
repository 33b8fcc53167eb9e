//go:build cgo && libvirt_dlopen

package libvirt

import (
	"context"

	"github.com/nationtech/fleetctl/vm"
)

var _ vm.Prober = (*Hypervisor)(nil)

// CanEmulate implements vm.Prober.
func (h *Hypervisor) CanEmulate(_ context.Context, arch vm.Arch) error {
	_, err := h.emulator(arch, vm.AccelTCG)
	return err
}

// HasFirmware implements vm.Prober. Without an emulator its newest machine is
// not known, and the error is CanEmulate's.
func (h *Hypervisor) HasFirmware(_ context.Context, arch vm.Arch) error {
	if h.remote {
		return nil
	}
	found, err := h.emulator(arch, vm.AccelTCG)
	if err != nil {
		return err
	}
	_, _, err = h.findFirmware(arch, found.Machine)
	return err
}

// CanKVM implements vm.Prober.
func (h *Hypervisor) CanKVM(ctx context.Context, arch vm.Arch) error { return h.tryKVM(ctx, arch) }

// HasNetwork implements vm.Prober.
func (h *Hypervisor) HasNetwork(_ context.Context, name string) (bool, error) {
	network, err := h.conn.LookupNetworkByName(name)
	if err != nil {
		return false, noNetwork(name, plain(err))
	}
	defer network.Free()
	active, err := network.IsActive()
	return active, plain(err)
}
