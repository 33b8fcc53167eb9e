package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"time"

	"github.com/nationtech/fleetctl/hostcfg"
	"github.com/nationtech/fleetctl/hostcfg/localhost"
	"github.com/nationtech/fleetctl/internal/hint"
)

// libvirtGroup may talk to the system's libvirt, on every distribution.
const libvirtGroup = "libvirt"

// vmHost is what makes a distribution able to run virtual machines.
type vmHost struct {
	packages []string // in the distribution's own words
	units    []string // where systemd runs
}

// vmHosts is by family. Debian 12 is tested on a real host; the others are
// written down from the distributions' package lists. Recommended packages are
// never relied on.
var vmHosts = map[hostcfg.Family]vmHost{
	hostcfg.Debian: {
		packages: []string{"libvirt-daemon-system", "libvirt-daemon-driver-qemu", "libvirt-clients", "dnsmasq-base", "iproute2",
			"qemu-utils", "qemu-system-x86", "qemu-system-arm", "ovmf", "qemu-efi-aarch64"},
		units: []string{"libvirtd.service"},
	},
	hostcfg.Fedora: {
		packages: []string{"libvirt-daemon-kvm", "libvirt-daemon-config-network", "libvirt-client", "dnsmasq",
			"qemu-img", "qemu-system-x86", "qemu-system-aarch64", "edk2-ovmf", "edk2-aarch64"},
		units: []string{"virtqemud.socket", "virtnetworkd.socket", "virtstoraged.socket"},
	},
	hostcfg.Alpine: {
		packages: []string{"libvirt-daemon", "libvirt-qemu", "libvirt-client", "dnsmasq", "iproute2",
			"qemu-img", "qemu-system-x86_64", "qemu-system-aarch64", "ovmf", "aavmf"},
	},
	hostcfg.Arch: {
		packages: []string{"libvirt", "dnsmasq", "qemu-base", "qemu-system-aarch64", "edk2-ovmf", "edk2-aarch64"},
		units:    []string{"libvirtd.service"},
	},
	hostcfg.SUSE: {
		packages: []string{"libvirt-daemon", "libvirt-daemon-qemu", "libvirt-daemon-config-network", "libvirt-client", "dnsmasq",
			"qemu-tools", "qemu-x86", "qemu-arm", "qemu-ovmf-x86_64", "qemu-uefi-aarch64"},
		units: []string{"libvirtd.service"},
	},
}

// rhel is of Fedora's family, and has no emulator for other architectures.
var rhel = vmHost{
	packages: []string{"libvirt-daemon-kvm", "libvirt-daemon-config-network", "libvirt-client", "dnsmasq", "qemu-img", "qemu-kvm", "edk2-ovmf"},
	units:    []string{"virtqemud.socket", "virtnetworkd.socket", "virtstoraged.socket"},
}

// vmResources are what a machine should have, so that a person can make virtual
// machines on it.
func vmResources(f *hostcfg.Facts, person string) ([]hostcfg.Resource, error) {
	host, known := vmHosts[f.Family]
	if f.Family == hostcfg.Fedora && f.OS.ID != "fedora" {
		host = rhel
	}
	if !known {
		return nil, hint.New(fmt.Sprintf("what to install on %q is not known", f.OS.PrettyName), "install libvirt with QEMU, dnsmasq and UEFI firmware by hand")
	}
	resources := []hostcfg.Resource{hostcfg.Packages{Name: "virtual-machines", Names: host.packages}}
	if f.Systemd() {
		for _, unit := range host.units {
			resources = append(resources, hostcfg.SystemUnit{Name: unit, Enable: hostcfg.On, Run: hostcfg.On})
		}
	}
	if person != "" && person != "root" {
		resources = append(resources, hostcfg.User{Name: person, Groups: []string{libvirtGroup}})
	}
	return resources, nil
}

// install makes this machine able to run virtual machines, after it showed what
// it would do and got the person's word. It says whether anything changed.
func (o *doctorOptions) install(ctx context.Context, f *Factory) (changed bool, err error) {
	if uri, err := url.Parse(o.connect); err == nil && uri.Host != "" {
		return false, usageError(errors.New("--fix changes this machine, and --connect names another"), "run fleetctl doctor --fix over there")
	}
	if os.Geteuid() != 0 {
		return false, hint.WithCode(hint.New("--fix installs packages, which needs root", "sudo fleetctl doctor --fix"), hint.CodeUsage)
	}
	host := localhost.New(f.Log())
	facts, err := hostcfg.GatherFacts(ctx, host)
	if err != nil {
		return false, err
	}
	person := os.Getenv("SUDO_USER")
	resources, err := vmResources(facts, person)
	if err != nil {
		return false, err
	}
	plan, err := hostcfg.MakePlan(ctx, host, resources)
	if err != nil {
		return false, err
	}
	if !plan.Changed() {
		fmt.Fprintln(f.Err, "nothing has to be installed")
		return false, nil
	}
	if err := plan.WriteText(f.Err, hostcfg.TextOptions{Color: f.ColorErr()}); err != nil {
		return false, err
	}
	if !o.yes {
		if err := f.Confirm(ctx, fmt.Sprintf("Change this machine: %d steps.", plan.ChangeCount()), "--yes"); err != nil {
			return false, err
		}
	}
	_, err = plan.Apply(ctx, host, hostcfg.ApplyOptions{Log: f.Log(), OnStep: func(e hostcfg.StepEvent) {
		if e.Done && e.Err == nil {
			fmt.Fprintf(f.Err, "[%d/%d] %s  %.1fs\n", e.Index+1, e.Total, e.Step.ID, e.Elapsed.Round(100*time.Millisecond).Seconds())
		}
	}})
	if step := plan.Step("user:" + person); err == nil && step != nil && step.Changed() {
		fmt.Fprintf(f.Err, "%s is in the group %s from the next login on; until then: newgrp %s\n", person, libvirtGroup, libvirtGroup)
	}
	return err == nil, err
}

// lookAgain runs doctor in a process of its own: a process looks for the
// library of libvirt once, and ours did before there was one.
func (o *doctorOptions) lookAgain(ctx context.Context, f *Factory) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("look again: %w", err)
	}
	again := exec.CommandContext(ctx, self, "doctor", "--connect", o.connect, "--output", f.global.output)
	again.Stdin, again.Stdout, again.Stderr = f.In, f.Out, f.Err
	err = again.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return &exitError{exit.ExitCode()}
	}
	return err
}
