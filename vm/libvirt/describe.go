package libvirt

import (
	"libvirt.org/go/libvirtxml"

	"github.com/nationtech/fleetctl/vm"
)

// mebibytes by libvirt's unit names; it answers in KiB whatever it was told.
var mebibytes = map[string]float64{"b": 1.0 / (1 << 20), "bytes": 1.0 / (1 << 20), "KiB": 1.0 / 1024, "": 1.0 / 1024, "MiB": 1, "GiB": 1024}

// fromDomain reads a machine from its domain; state and address come apart.
func fromDomain(d libvirtxml.Domain, meta metadata) vm.VM {
	machine := vm.VM{
		Name:     d.Name,
		DiskGiB:  meta.DiskGiB,
		Image:    meta.Image,
		ImageSHA: meta.ImageSHA,
		Accel:    meta.Accel,
		Firmware: meta.Firmware,
		User:     meta.User,
		HostKey:  meta.HostKey,
		Created:  meta.Created,
	}
	if d.VCPU != nil {
		machine.CPUs = int(d.VCPU.Value)
	}
	if d.Memory != nil {
		machine.MemoryMiB = int(float64(d.Memory.Value) * mebibytes[d.Memory.Unit])
	}
	if d.OS != nil && d.OS.Type != nil {
		machine.Arch = vm.Arch(d.OS.Type.Arch)
	}
	if d.Devices == nil {
		return machine
	}
	for _, nic := range d.Devices.Interfaces {
		if nic.MAC != nil {
			machine.MAC = nic.MAC.Address
		}
		if nic.Source != nil && nic.Source.Network != nil {
			machine.Network = nic.Source.Network.Network
		}
	}
	return machine
}
