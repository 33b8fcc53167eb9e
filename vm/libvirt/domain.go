package libvirt

import (
	"crypto/sha256"
	"fmt"

	"libvirt.org/go/libvirtxml"

	"github.com/nationtech/fleetctl/firmware"
	"github.com/nationtech/fleetctl/vm"
)

// domainInput is what a domain is made of, with every choice already made.
type domainInput struct {
	Spec     vm.Spec
	Accel    vm.Accel // kvm or tcg
	Emulator emulator
	Firmware firmware.Image // of a UEFI machine, local hypervisors
	Disk     string         // paths on the hypervisor
	Seed     string
	Console  string
	NVRAM    string
	Metadata string // XML
}

// emulator is the QEMU that runs the domain.
type emulator struct {
	Path    string
	Machine string // full type, such as pc-q35-7.2
	Version uint32 // major*1000000 + minor*1000 + micro, as libvirt has it
	Remote  bool   // its files cannot be looked at from here
}

// macAddress is derived from the name, so that a machine made again under its
// name asks for the address that it had. 52:54:00 is QEMU's prefix.
func macAddress(name string) string {
	sum := sha256.Sum256([]byte("fleetctl/" + name))
	return fmt.Sprintf("52:54:00:%02x:%02x:%02x", sum[0], sum[1], sum[2])
}

// domainXML makes the domain: only what a headless Linux guest uses, since
// firmware and kernel spend time on every device they find.
func domainXML(in domainInput) (string, error) {
	spec := in.Spec
	domain := &libvirtxml.Domain{
		Type:     "qemu",
		Name:     spec.Name,
		Metadata: &libvirtxml.DomainMetadata{XML: in.Metadata},
		Memory:   &libvirtxml.DomainMemory{Value: uint(spec.MemoryMiB), Unit: "MiB"},
		VCPU:     &libvirtxml.DomainVCPU{Placement: "static", Value: uint(spec.CPUs)},
		OS:       &libvirtxml.DomainOS{Type: &libvirtxml.DomainOSType{Arch: string(spec.Arch), Machine: in.Emulator.Machine, Type: "hvm"}},
		Features: &libvirtxml.DomainFeatureList{ACPI: &libvirtxml.DomainFeature{}},
		CPU:      &libvirtxml.DomainCPU{Mode: "maximum"},
		Clock:    &libvirtxml.DomainClock{Offset: "utc"},
		// A guest that reboots or powers off by itself does what it asked for.
		OnPoweroff: "destroy",
		OnReboot:   "restart",
		OnCrash:    "destroy",
		Devices:    devices(in),
	}
	if spec.Arch == vm.X86_64 {
		domain.Features.APIC = &libvirtxml.DomainFeatureAPIC{}
	}
	if in.Accel == vm.AccelKVM {
		domain.Type = "kvm"
		domain.CPU = &libvirtxml.DomainCPU{Mode: "host-passthrough", Check: "none"}
	} else {
		emulate(domain, in)
	}
	if spec.Firmware == vm.FirmwareUEFI {
		bootUEFI(domain.OS, in)
	}
	return domain.Marshal()
}

func bootUEFI(os *libvirtxml.DomainOS, in domainInput) {
	// Without a menu whose time is 0 the aarch64 firmware waits for a key.
	os.BootMenu = &libvirtxml.DomainBootMenu{Enable: "yes", Timeout: "0"}
	if in.Emulator.Remote {
		os.Firmware = "efi"
		os.Loader = &libvirtxml.DomainLoader{Secure: "no"}
		os.NVRam = &libvirtxml.DomainNVRam{NVRam: in.NVRAM}
		return
	}
	os.Loader = &libvirtxml.DomainLoader{Path: in.Firmware.Code, Readonly: "yes", Type: "pflash"}
	os.NVRam = &libvirtxml.DomainNVRam{NVRam: in.NVRAM, Template: in.Firmware.Vars}
}

func devices(in domainInput) *libvirtxml.DomainDeviceList {
	return &libvirtxml.DomainDeviceList{
		Emulator: in.Emulator.Path,
		Disks: []libvirtxml.DomainDisk{
			{
				Device: "disk",
				Driver: &libvirtxml.DomainDiskDriver{Name: "qemu", Type: "qcow2", Discard: "unmap"},
				// type='file': AppArmor's helper does not understand volumes.
				Source: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: in.Disk}},
				Target: &libvirtxml.DomainDiskTarget{Dev: "vda", Bus: "virtio"},
				Boot:   &libvirtxml.DomainDeviceBoot{Order: 1},
			},
			{
				// A disk and not a CD-ROM: cloud kernels have no AHCI.
				Device:   "disk",
				Driver:   &libvirtxml.DomainDiskDriver{Name: "qemu", Type: "raw"},
				Source:   &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: in.Seed}},
				Target:   &libvirtxml.DomainDiskTarget{Dev: "vdb", Bus: "virtio"},
				ReadOnly: &libvirtxml.DomainDiskReadOnly{},
			},
		},
		Controllers: []libvirtxml.DomainController{{Type: "usb", Model: "none"}},
		Interfaces: []libvirtxml.DomainInterface{{
			MAC:    &libvirtxml.DomainInterfaceMAC{Address: macAddress(in.Spec.Name)},
			Source: &libvirtxml.DomainInterfaceSource{Network: &libvirtxml.DomainInterfaceSourceNetwork{Network: in.Spec.Network}},
			Model:  &libvirtxml.DomainInterfaceModel{Type: "virtio"},
			// No option ROM: nothing boots from the network here, and the
			// firmware would try before it looks at the disk.
			ROM: &libvirtxml.DomainROM{Enabled: "no"},
		}},
		Serials: []libvirtxml.DomainSerial{{
			Source: &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}},
			Log:    &libvirtxml.DomainChardevLog{File: in.Console, Append: "off"},
		}},
		MemBalloon: &libvirtxml.DomainMemBalloon{Model: "none"},
		RNGs: []libvirtxml.DomainRNG{{
			Model:   "virtio",
			Backend: &libvirtxml.DomainRNGBackend{Random: &libvirtxml.DomainRNGBackendRandom{Device: "/dev/urandom"}},
		}},
	}
}
