package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nationtech/fleetctl/hostcfg"
	"github.com/nationtech/fleetctl/hostcfg/hosttest"
)

// played package managers keep what is installed as files in /run/pkgs.
const (
	playedRPM     = `shift 3; for n; do [ ! -e "/run/pkgs/$n" ] || echo "$n 1.0-1"; done`
	playedInstall = `mkdir -p /run/pkgs; install=; for a; do case $a in -*) ;; install|add) install=yes ;; *) [ -z "$install" ] || : >"/run/pkgs/$a" ;; esac; done
	for u in libvirtd.service virtqemud.socket virtnetworkd.socket virtstoraged.socket; do : >"/var/lib/units/$u"; done
	getent group libvirt >/dev/null || groupadd -r libvirt`
)

func playedPackages(family hostcfg.Family) map[string]string {
	switch family {
	case hostcfg.Debian:
		return map[string]string{"apt-get": playedInstall, "dpkg-query": `shift 2; for n; do [ ! -e "/run/pkgs/$n" ] || echo "$n 1.0 ii "; done`}
	case hostcfg.Alpine:
		return map[string]string{"apk": `case $1 in info) [ -e "/run/pkgs/$4" ] && echo "$4-1.0-r1" ;; *)` + playedInstall + ` ;; esac`}
	case hostcfg.Arch:
		return map[string]string{"pacman": `case $1 in -Q) shift; for n; do [ ! -e "/run/pkgs/$n" ] || echo "$n 1.0-1"; done ;; -S) shift; set -- install "$@";` + playedInstall + ` ;; esac`}
	case hostcfg.SUSE:
		return map[string]string{"zypper": playedInstall, "rpm": playedRPM}
	}
	return map[string]string{"dnf": playedInstall, "rpm": playedRPM}
}

// TestInstallOnEachFamily: the plan is carried out, and a second one is empty.
func TestInstallOnEachFamily(t *testing.T) {
	for release, c := range map[string]struct {
		family        hostcfg.Family
		systemd       bool
		want, wantNot string
	}{
		"debian-12":          {hostcfg.Debian, true, "qemu-efi-aarch64", ""},
		"ubuntu-24.04":       {hostcfg.Debian, true, "ovmf", ""},
		"fedora-41":          {hostcfg.Fedora, true, "qemu-system-aarch64", ""},
		"rocky-9":            {hostcfg.Fedora, true, "qemu-kvm", "qemu-system-aarch64"},
		"alpine-3.20":        {hostcfg.Alpine, false, "aavmf", ""},
		"arch":               {hostcfg.Arch, true, "edk2-aarch64", ""},
		"opensuse-leap-15.6": {hostcfg.SUSE, true, "qemu-uefi-aarch64", ""},
	} {
		t.Run(release, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("../../hostcfg/testdata/os-release", release))
			if err != nil {
				t.Fatal(err)
			}
			host := hosttest.NewScratch(t, hosttest.ScratchOptions{OSRelease: string(text), Systemd: c.systemd})
			for name, script := range playedPackages(c.family) {
				host.Play(t, name, "mkdir -p /run/pkgs /var/lib/units\n"+script+"\n")
			}
			if c.family == hostcfg.Debian { // what the facts look for
				host.Play(t, "apt", "")
			}
			facts, err := hostcfg.GatherFacts(t.Context(), host)
			if err != nil || facts.Family != c.family {
				t.Fatalf("family %q, %v", facts.Family, err)
			}
			resources, err := vmResources(facts, "pi")
			if err != nil {
				t.Fatal(err)
			}
			plan, err := hostcfg.MakePlan(t.Context(), host, resources)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := plan.Apply(t.Context(), host, hostcfg.ApplyOptions{}); err != nil {
				t.Fatal(err)
			}
			installed := strings.Fields(host.Sh(t, "ls /run/pkgs"))
			if !slices.Contains(installed, c.want) || slices.Contains(installed, c.wantNot) {
				t.Errorf("installed %q, want %q and not %q", installed, c.want, c.wantNot)
			}
			if groups := host.Sh(t, "id -nG pi"); !strings.Contains(groups, libvirtGroup) {
				t.Errorf("pi is in %q", groups)
			}
			again, err := hostcfg.MakePlan(t.Context(), host, resources)
			if err != nil || again.Changed() {
				t.Errorf("a second plan changes something: %v, %v", again, err)
			}
		})
	}
}

func TestUnknownDistributionIsToldSo(t *testing.T) {
	if _, err := vmResources(&hostcfg.Facts{OS: hostcfg.OSRelease{PrettyName: "Plan 9"}}, ""); err == nil || !strings.Contains(err.Error(), "Plan 9") {
		t.Errorf("resources: %v", err)
	}
}

func TestMembershipNeedsANewLogin(t *testing.T) {
	for _, c := range []struct {
		member, active bool
		status, fix    string
	}{
		{true, true, findingOK, ""},
		{true, false, findingMissing, "log in again"},
		{false, false, findingMissing, "usermod -aG libvirt me"},
	} {
		got := judgeMembership("group libvirt", "me", c.member, c.active)
		if got.Status != c.status || !strings.Contains(got.Fix, c.fix) {
			t.Errorf("member %v, active %v: %+v", c.member, c.active, got)
		}
	}
}

func TestAppArmorNeedsItsHelper(t *testing.T) {
	dir := t.TempDir()
	parameter, helper := filepath.Join(dir, "enabled"), filepath.Join(dir, "virt-aa-helper")
	if got := checkAppArmor(parameter, []string{helper}); got.Status != findingOK {
		t.Errorf("without AppArmor: %+v", got)
	}
	if err := os.WriteFile(parameter, []byte("Y\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := checkAppArmor(parameter, []string{helper}); got.Status != findingNote || got.Fix == "" {
		t.Errorf("without the helper: %+v", got)
	}
	if err := os.WriteFile(helper, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	if got := checkAppArmor(parameter, []string{helper}); got.Status != findingOK {
		t.Errorf("with the helper: %+v", got)
	}
}
