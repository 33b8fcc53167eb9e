package libvirt

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"libvirt.org/go/libvirtxml"

	"github.com/nationtech/fleetctl/vm"
)

// tcgChoice is how a guest architecture is emulated from a QEMU version on.
type tcgChoice struct {
	arch vm.Arch
	from uint32   // QEMU version, as libvirt counts it
	args []string // appended to QEMU's command line; nil: libvirt's own will do
}

// tcgChoices holds the fastest correct processor of each version, the newest
// first. Seconds to SSH, Debian 12, two shared cores:
//
//	x86_64   max                     65
//	aarch64  max, plain             166–184
//	aarch64  max, pauth-impdef       74–82   cortex-a57: 79, without newer instructions
//
// In turns with plain max on a loaded machine: 35 against 74 with pauth-impdef
// alone, 27 against 79 also without LPA2, whose wider page tables no guest of
// ours has a use for; measured on QEMU 7.2, where the property is known to be.
//
// Pointer authentication with the architected cipher costs more than all the
// rest of the guest; QEMU offers a cheap one of its own since 6.0 as a property
// that libvirt has no word for. Before that, a processor without it is taken.
// The last -cpu and -accel on a command line win.
var tcgChoices = []tcgChoice{
	{vm.AArch64, 7_002_000, []string{"-cpu", "max,pauth-impdef=on,lpa2=off", "-accel", "tcg,thread=multi"}},
	{vm.AArch64, 6_000_000, []string{"-cpu", "max,pauth-impdef=on", "-accel", "tcg,thread=multi"}},
	{vm.AArch64, 0, []string{"-cpu", "cortex-a57", "-accel", "tcg,thread=multi"}},
	{vm.X86_64, 0, nil},
}

func emulate(domain *libvirtxml.Domain, in domainInput) {
	for _, choice := range tcgChoices {
		if choice.arch != in.Spec.Arch || in.Emulator.Version < choice.from {
			continue
		}
		if choice.args != nil {
			domain.QEMUCommandline = &libvirtxml.DomainQEMUCommandline{}
			for _, arg := range choice.args {
				domain.QEMUCommandline.Args = append(domain.QEMUCommandline.Args, libvirtxml.DomainQEMUCommandlineArg{Value: arg})
			}
		}
		return
	}
}

// machineTypes is the board of each architecture, in libvirt's short name.
var machineTypes = map[vm.Arch]string{vm.X86_64: "q35", vm.AArch64: "virt"}

var versionSuffix = regexp.MustCompile(`-(\d+)\.(\d+)$`)

// versionOf reads QEMU's version from its newest machine type, "virt-7.2":
// asking for the version itself makes libvirt start every emulator there is,
// which takes 12 s where they are not known yet.
func versionOf(machine string) (uint32, error) {
	match := versionSuffix.FindStringSubmatch(machine)
	if match == nil {
		return 0, nil // a distribution's own name; the oldest choice will do
	}
	major, err1 := strconv.ParseUint(match[1], 10, 10)
	minor, err2 := strconv.ParseUint(match[2], 10, 10)
	if err := errors.Join(err1, err2); err != nil {
		return 0, fmt.Errorf("read the version of machine type %s: %w", machine, err)
	}
	return uint32(major*1_000_000 + minor*1_000), nil
}
