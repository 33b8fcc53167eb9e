package libvirt

import (
	"fmt"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/vm"
)

func noNetwork(name string, err error) error {
	next := "see the networks that there are with: virsh net-list --all"
	if name == "default" {
		next = "make it with: virsh net-define /usr/share/libvirt/networks/default.xml; virsh net-autostart default"
	}
	return hint.Wrap(fmt.Errorf("network %s: %w", name, err), next)
}

func installQEMU(arch vm.Arch) string {
	if arch == vm.AArch64 {
		return "install it: apt-get install qemu-system-arm · dnf install qemu-system-aarch64 · pacman -S qemu-system-aarch64 · zypper install qemu-arm"
	}
	return "install it: apt-get install qemu-system-x86 · dnf install qemu-system-x86 · pacman -S qemu-system-x86 · zypper install qemu-x86"
}
