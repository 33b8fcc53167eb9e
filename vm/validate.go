package vm

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/nationtech/fleetctl/internal/hint"
)

var (
	labelPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	userPattern  = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
)

const gib = 1 << 30

// CheckName refuses what cannot be a machine's name: it is a host name too.
func CheckName(name string) error {
	if labelPattern.MatchString(name) {
		return nil
	}
	return hint.WithCode(hint.New(fmt.Sprintf("%q cannot be a machine's name", name),
		"use lower-case letters, digits and hyphens, at most 63, such as pi-1"), hint.CodeUsage)
}

// Validate reports all that is wrong with a spec whose defaults are filled.
func (s Spec) Validate() error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	fault(!labelPattern.MatchString(s.Name), "name %q: want lower-case letters, digits and hyphens, at most 63", s.Name)
	fault(!labelPattern.MatchString(s.FirstBoot.Hostname), "hostname %q: want lower-case letters, digits and hyphens, at most 63", s.FirstBoot.Hostname)
	fault(s.Arch != X86_64 && s.Arch != AArch64, "arch %q: want x86_64 or aarch64", s.Arch)
	fault(s.CPUs < 1 || s.CPUs > 255, "cpus %d: want 1 to 255", s.CPUs)
	fault(s.MemoryMiB < 256 || s.MemoryMiB > 1<<20, "memory %d MiB: want 256 MiB to 1 TiB", s.MemoryMiB)
	fault(s.DiskGiB < 1 || s.DiskGiB > 64<<10, "disk %d GiB: want 1 GiB to 64 TiB", s.DiskGiB)
	fault(int64(s.DiskGiB)*gib < s.Image.Size, "disk %d GiB: the image %s alone needs %d GiB", s.DiskGiB, s.Image.Name, (s.Image.Size+gib-1)/gib)
	fault(s.Accel != AccelAuto && s.Accel != AccelKVM && s.Accel != AccelTCG, "accel %q: want auto, kvm or tcg", s.Accel)
	fault(s.Firmware != FirmwareBIOS && s.Firmware != FirmwareUEFI, "firmware %q: want auto, bios or uefi", s.Firmware)
	fault(s.Arch == AArch64 && s.Firmware == FirmwareBIOS, "firmware bios: aarch64 machines have UEFI only")
	fault(!userPattern.MatchString(s.FirstBoot.User), "user %q: want a Unix login name", s.FirstBoot.User)
	fault(s.FirstBoot.User == "root", "user root: name an ordinary user; it gets sudo")
	fault(s.Network == "", "network: want a network's name")
	fault(len(s.FirstBoot.AuthorizedKeys) == 0 && s.FirstBoot.PasswordHash == "", "no SSH key and no password: nobody could log in")
	if len(faults) == 0 {
		return nil
	}
	return hint.WithCode(hint.Wrap(fmt.Errorf("virtual machine %s: %w", s.Name, errors.Join(faults...)), "see: fleetctl vm create --help"), hint.CodeUsage)
}
