//go:build cgo && libvirt_dlopen

package libvirt

import (
	"context"
	"fmt"

	"libvirt.org/go/libvirtxml"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/vm"
	"github.com/nationtech/fleetctl/vm/kvm"
)

// accelerator decides how guests run, and says why.
func (h *Hypervisor) accelerator(ctx context.Context, spec vm.Spec) (vm.Accel, error) {
	if spec.Accel == vm.AccelTCG {
		return vm.AccelTCG, nil
	}
	unusable := h.tryKVM(ctx, spec.Arch)
	switch {
	case unusable == nil:
		return vm.AccelKVM, nil
	case spec.Accel == vm.AccelKVM:
		return "", hint.Wrap(fmt.Errorf("KVM cannot be used: %w", unusable), "emulate instead, which is slow but works: --accel tcg")
	}
	h.Report("emulating the processor (TCG), which is slow: " + unusable.Error())
	return vm.AccelTCG, nil
}

// tryKVM runs code under KVM where that is this machine's, since a device file
// that is there and opens proves nothing. Of a remote one only libvirt's word
// can be had.
func (h *Hypervisor) tryKVM(ctx context.Context, arch vm.Arch) error {
	if !h.remote {
		if arch != vm.HostArch() {
			return fmt.Errorf("KVM runs no %s guests on %s", arch, vm.HostArch())
		}
		return kvm.Probe(ctx)
	}
	if _, err := h.conn.GetDomainCapabilities("", string(arch), machineTypes[arch], "kvm", 0); err != nil {
		return plain(err)
	}
	return nil
}

// emulator asks libvirt which QEMU it would take.
func (h *Hypervisor) emulator(arch vm.Arch, accel vm.Accel) (emulator, error) {
	virt := "qemu"
	if accel == vm.AccelKVM {
		virt = "kvm"
	}
	text, err := h.conn.GetDomainCapabilities("", string(arch), machineTypes[arch], virt, 0)
	if err != nil {
		return emulator{}, hint.Wrap(fmt.Errorf("the hypervisor has no emulator for %s: %w", arch, plain(err)), installQEMU(arch))
	}
	var caps libvirtxml.DomainCaps
	if err := caps.Unmarshal(text); err != nil {
		return emulator{}, fmt.Errorf("decode the emulator's abilities: %w", err)
	}
	version, err := versionOf(caps.Machine)
	if err != nil {
		return emulator{}, err
	}
	return emulator{Path: caps.Path, Machine: caps.Machine, Version: version, Remote: h.remote}, nil
}
