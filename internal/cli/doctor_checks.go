package cli

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"syscall"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/vm"
	"github.com/nationtech/fleetctl/vm/libvirt"
)

// needSpace is what an image, its copy in the pool and a used disk take.
const needSpace = 5 * gib

// diagnose makes all checks; those that need libvirt stop where it is not
// reached.
func diagnose(ctx context.Context, f *Factory, uri string) []finding {
	findings := []finding{checkSpace(f)}
	if here, err := url.Parse(uri); err == nil && here.Host == "" {
		findings = append(findings, checkMembership(libvirtGroup), checkAppArmor("/sys/module/apparmor/parameters/enabled", appArmorHelpers))
	}
	v := &vmFactory{Factory: f, connect: uri}
	h, err := v.hypervisor(ctx)
	findings = append(findings, judgeErr("libvirt", err, "answers at "+uri, libvirtFix()))
	if err != nil {
		return findings
	}
	defer h.Close()
	started, err := h.HasNetwork(ctx, vm.DefaultNetwork)
	detail := "is active"
	if !started {
		detail = "is there; vm create starts it"
	}
	findings = append(findings, judgeErr("network "+vm.DefaultNetwork, err, detail, ""))
	for _, arch := range vm.Arches() {
		found := judgeErr("emulator "+string(arch), h.CanEmulate(ctx, arch), "is there", "")
		if found.Status == findingMissing && arch != vm.HostArch() {
			found.Status = findingNote // needed for --arch only
		}
		findings = append(findings, found, checkFirmware(ctx, h, arch))
	}
	return append(findings, checkKVM(ctx, h))
}

// judgeErr is missing with the error and its hint, or ok.
func judgeErr(check string, err error, good, fix string) finding {
	if err == nil {
		return finding{Check: check, Status: findingOK, Detail: good}
	}
	if own := hint.Of(err); fix == "" {
		fix = own
	}
	return finding{Check: check, Status: findingMissing, Detail: err.Error(), Fix: fix}
}

// checkFirmware is a note on x86_64, whose machines start with BIOS unless
// --firmware says otherwise, and for another architecture than this machine's.
func checkFirmware(ctx context.Context, h *libvirt.Hypervisor, arch vm.Arch) finding {
	found := judgeErr("UEFI "+string(arch), h.HasFirmware(ctx, arch), "is there", "")
	if found.Status == findingMissing && (arch == vm.X86_64 || arch != vm.HostArch()) {
		found.Status = findingNote
	}
	return found
}

func checkKVM(ctx context.Context, h *libvirt.Hypervisor) finding {
	found := judgeErr("KVM", h.CanKVM(ctx, vm.HostArch()), "runs guests", "")
	if found.Status == findingMissing { // emulation works without
		found.Status = findingNote
		found.Fix = "switch virtualisation on in the firmware's set-up; until then machines are emulated, which is slow"
	}
	return found
}

func checkSpace(f *Factory) finding {
	dir, err := f.CacheDir()
	if err != nil {
		return judgeErr("disk space", err, "", "")
	}
	for ; dir != "/"; dir = filepath.Dir(dir) { // the cache need not be there yet
		if _, err := os.Stat(dir); err == nil {
			break
		}
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return judgeErr("disk space", fmt.Errorf("look at %s: %w", dir, err), "", "")
	}
	free := int64(fs.Bavail) * fs.Bsize
	if free < needSpace {
		return finding{"disk space", findingMissing, formatSize(free) + " are free at " + dir, "make room for " + formatSize(needSpace)}
	}
	return finding{Check: "disk space", Status: findingOK, Detail: formatSize(free) + " are free at " + dir}
}

// libvirtFix is what makes libvirt answer: installing it, starting it, or being
// allowed to talk to it.
func libvirtFix() string {
	const socket = "/run/libvirt/libvirt-sock"
	if _, err := os.Stat(socket); err != nil {
		return "install and start it: apt-get install libvirt-daemon-system · dnf install libvirt-daemon-kvm · pacman -S libvirt dnsmasq · zypper install libvirt-daemon-qemu; then: systemctl enable --now libvirtd"
	}
	if syscall.Access(socket, 6) != nil { // read and write
		return "join its group and log in again: sudo usermod -aG libvirt " + os.Getenv("USER")
	}
	return "see: systemctl status libvirtd"
}
