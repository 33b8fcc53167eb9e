package firmware

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nationtech/fleetctl/internal/hint"
)

// Query says what the firmware is for.
type Query struct {
	Arch       string // QEMU's name: x86_64, aarch64
	Machine    string // QEMU's full machine type, such as "pc-q35-7.2" or "virt-7.2"
	SecureBoot bool   // only builds with secure boot; otherwise only those without
}

// Image is a firmware to start guests with.
type Image struct {
	Code string // read-only flash, shared by guests
	Vars string // template of the guest's own flash
	From string // where it was found, for a person
}

// Finder knows where to look.
type Finder struct {
	Dirs  []string // descriptors, the first directory wins
	Paths []Known
}

// Known is a place where a distribution puts its firmware.
type Known struct {
	Arch, Code, Vars string
}

// NewFinder looks where QEMU says that descriptors are: the user's, the
// administrator's, the distribution's.
func NewFinder(configHome string) Finder {
	dirs := []string{"/etc/qemu/firmware", "/usr/share/qemu/firmware"}
	if configHome != "" {
		dirs = append([]string{filepath.Join(configHome, "qemu", "firmware")}, dirs...)
	}
	return Finder{Dirs: dirs, Paths: knownPaths}
}

// knownPaths are for distributions, or releases, without descriptors.
var knownPaths = []Known{
	{"x86_64", "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},                               // Debian, Ubuntu
	{"x86_64", "/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},                                     // Debian 10, Fedora
	{"x86_64", "/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"},                       // Arch
	{"x86_64", "/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"},                     // openSUSE
	{"aarch64", "/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"},                                // Debian, Ubuntu, Fedora
	{"aarch64", "/usr/share/edk2/aarch64/QEMU_EFI.fd", "/usr/share/edk2/aarch64/QEMU_VARS.fd"},                     // Arch
	{"aarch64", "/usr/share/qemu/aavmf-aarch64-code.bin", "/usr/share/qemu/aavmf-aarch64-vars.bin"},                // openSUSE
	{"aarch64", "/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw", "/usr/share/edk2/aarch64/vars-template-pflash.raw"}, // Fedora
}

// Find returns the first firmware that suits and whose files are there. The
// error's hint is the package to install.
func (f Finder) Find(q Query) (Image, error) {
	found, broken := f.descriptors()
	for _, d := range found {
		if d.suits(q) && isFile(d.Mapping.Executable.Filename) && isFile(d.Mapping.Template.Filename) {
			return Image{Code: d.Mapping.Executable.Filename, Vars: d.Mapping.Template.Filename, From: d.Description}, nil
		}
	}
	for _, known := range f.Paths {
		if !q.SecureBoot && known.Arch == q.Arch && isFile(known.Code) && isFile(known.Vars) {
			return Image{Code: known.Code, Vars: known.Vars, From: known.Code}, nil
		}
	}
	err := errors.Join(append([]error{fmt.Errorf("no UEFI firmware for %s (%s) on this machine", q.Arch, q.Machine)}, broken...)...)
	return Image{}, hint.Wrap(err, "install it: "+installHint(q.Arch))
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// installHint names the package on the distributions that have it.
func installHint(arch string) string {
	if arch == "aarch64" {
		return "apt-get install qemu-efi-aarch64 · dnf install edk2-aarch64 · pacman -S edk2-aarch64 · zypper install qemu-uefi-aarch64"
	}
	return "apt-get install ovmf · dnf install edk2-ovmf · pacman -S edk2-ovmf · zypper install qemu-ovmf-x86_64"
}
