// Package vm is virtual machines as fleetctl sees them: what one should be
// (Spec), what one is (VM), what a hypervisor can do (Hypervisor and the
// abilities beside it), and waiting until a guest answers. It knows nothing of
// libvirt, nor how first boot is delivered: both belong to the implementation
// in vm/libvirt.
package vm

import (
	"io/fs"
	"runtime"
)

// Arch is a guest's processor architecture, spelled as the kernel spells it.
type Arch string

const (
	X86_64  Arch = "x86_64"
	AArch64 Arch = "aarch64"
)

// Arches lists what can be emulated.
func Arches() []Arch { return []Arch{X86_64, AArch64} }

// HostArch is this machine's architecture in the same spelling.
func HostArch() Arch {
	if runtime.GOARCH == "arm64" {
		return AArch64
	}
	return X86_64
}

// Accel is how guest code is executed.
type Accel string

const (
	AccelAuto Accel = "auto" // KVM where a guest really runs on it, else TCG
	AccelKVM  Accel = "kvm"
	AccelTCG  Accel = "tcg" // emulation
)

// Firmware is what starts the guest's boot loader.
type Firmware string

const (
	FirmwareAuto Firmware = "auto" // BIOS on x86_64, UEFI on aarch64
	FirmwareBIOS Firmware = "bios"
	FirmwareUEFI Firmware = "uefi"
)

// Spec is what a virtual machine should be.
type Spec struct {
	Name      string
	Arch      Arch
	CPUs      int
	MemoryMiB int
	DiskGiB   int
	Image     Image
	Network   string // the hypervisor's name for it
	Accel     Accel
	Firmware  Firmware
	FirstBoot FirstBoot
}

// Image is the disk that a machine starts from: verified, on this machine.
type Image struct {
	Name   string // how the user calls it
	Path   string
	SHA256 string // hex; identifies the content
	Format string // qcow2 or raw
	Size   int64  // the guest's view of it, in bytes
}

// FirstBoot is what a machine should have after it started for the first time.
type FirstBoot struct {
	Hostname string // "" is the machine's name
	User     string
	// AuthorizedKeys are lines of authorized_keys.
	AuthorizedKeys []string
	// HostKeyPrivate and HostKeyPublic are the guest's SSH host key, so that
	// the first connection can be checked. Empty: the guest makes its own.
	HostKeyPrivate Secret
	HostKeyPublic  string
	PasswordHash   Secret // crypt(5); allows SSH with the password
	Packages       []string
	Files          []File
	Timezone       string
	// Extra is a document in the guest's own first-boot format, laid over
	// what is made from the fields above.
	Extra []byte
}

// File is written at first boot and belongs to root.
type File struct {
	Path    string
	Content []byte
	Mode    fs.FileMode
}

// Secret is text that must not be printed.
type Secret string

// String hides the secret from %v, logs and JSON.
func (Secret) String() string { return "[redacted]" }

// MarshalText hides the secret from encoders.
func (Secret) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// Defaults of a machine that stands in for a small device.
const (
	DefaultCPUs      = 2
	DefaultMemoryMiB = 2048
	DefaultDiskGiB   = 16
	DefaultNetwork   = "default"
	DefaultUser      = "fleet"
)

// WithDefaults fills what was left open.
func (s Spec) WithDefaults() Spec {
	fill(&s.Arch, HostArch())
	fill(&s.CPUs, DefaultCPUs)
	fill(&s.MemoryMiB, DefaultMemoryMiB)
	fill(&s.DiskGiB, DefaultDiskGiB)
	fill(&s.Network, DefaultNetwork)
	fill(&s.Accel, AccelAuto)
	fill(&s.Firmware, FirmwareAuto)
	fill(&s.FirstBoot.User, DefaultUser)
	fill(&s.FirstBoot.Hostname, s.Name)
	if s.Firmware == FirmwareAuto {
		s.Firmware = FirmwareBIOS
		if s.Arch == AArch64 {
			s.Firmware = FirmwareUEFI
		}
	}
	return s
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
