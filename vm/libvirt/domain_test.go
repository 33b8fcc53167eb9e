package libvirt

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"libvirt.org/go/libvirtxml"

	"github.com/nationtech/fleetctl/firmware"
	"github.com/nationtech/fleetctl/vm"
)

var update = flag.Bool("update", false, "write the golden files anew")

func input(t *testing.T, arch vm.Arch, accel vm.Accel, change func(*domainInput)) domainInput {
	t.Helper()
	spec := vm.Spec{Name: "pi", Arch: arch, Image: vm.Image{Name: "debian-13", SHA256: strings.Repeat("ab", 32)}}.WithDefaults()
	in := domainInput{
		Spec: spec, Accel: accel, Disk: inPool(diskVolume("pi")), Seed: inPool(seedVolume("pi")),
		Console: inPool(consoleVolume("pi")), NVRAM: inPool(nvramVolume("pi")),
		Emulator: emulator{Path: "/usr/bin/qemu-system-" + string(arch), Machine: machineTypes[arch] + "-7.2", Version: 7_002_000},
		Firmware: firmware.Image{Code: "/usr/share/CODE.fd", Vars: "/usr/share/VARS.fd"},
	}
	if change != nil {
		change(&in)
	}
	var err error
	if in.Metadata, err = newMetadata(in.Spec, accel, time.Unix(1700000000, 0)).encode(); err != nil {
		t.Fatal(err)
	}
	return in
}

func TestGoldenDomains(t *testing.T) {
	uefi := func(in *domainInput) { in.Spec.Firmware = vm.FirmwareUEFI }
	for name, in := range map[string]domainInput{
		"x86_64-tcg-bios":        input(t, vm.X86_64, vm.AccelTCG, nil),
		"x86_64-kvm-uefi":        input(t, vm.X86_64, vm.AccelKVM, uefi),
		"aarch64-tcg":            input(t, vm.AArch64, vm.AccelTCG, nil),
		"aarch64-tcg-old-qemu":   input(t, vm.AArch64, vm.AccelTCG, func(in *domainInput) { in.Emulator.Version = 5_002_000 }),
		"aarch64-kvm":            input(t, vm.AArch64, vm.AccelKVM, nil),
		"aarch64-remote":         input(t, vm.AArch64, vm.AccelTCG, func(in *domainInput) { in.Emulator.Remote = true }),
		"x86_64-remote-kvm-bios": input(t, vm.X86_64, vm.AccelKVM, func(in *domainInput) { in.Emulator.Remote = true }),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := domainXML(in)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", name+".xml")
			if *update {
				if err := os.WriteFile(path, []byte(got+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got+"\n" != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			validate(t, path)
		})
	}
}

// validate asks libvirt's own schema.
func validate(t *testing.T, path string) {
	t.Helper()
	for _, tool := range []string{"virt-xml-validate", "xmllint"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed: the schema is not checked", tool)
		}
	}
	if out, err := exec.Command("virt-xml-validate", path, "domain").CombinedOutput(); err != nil {
		t.Errorf("virt-xml-validate: %v\n%s", err, out)
	}
}

func TestMetadataSurvivesTheDomain(t *testing.T) {
	in := input(t, vm.AArch64, vm.AccelTCG, nil)
	meta := newMetadata(in.Spec, vm.AccelTCG, time.Unix(1700000000, 0))
	meta.Image = `odd "name" <&>`
	meta.Snapshots = []snapshot{{Name: "one", Disk: "/a", DiskGiB: 3, Memory: "/m"}}
	for name, encode := range map[string]func() (string, error){"in a domain": meta.encode, "bare": meta.encodeBare} {
		text, err := encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeMetadata(text)
		if err != nil {
			t.Fatal(err)
		}
		if got.Image != meta.Image || got.DiskGiB != meta.DiskGiB || !got.Created.Equal(meta.Created) || len(got.Snapshots) != 1 || got.Snapshots[0].Memory != "/m" {
			t.Errorf("%s: got %+v, want %+v", name, got, meta)
		}
	}
}

func TestDescribedMachineIsTheSpec(t *testing.T) {
	in := input(t, vm.AArch64, vm.AccelTCG, nil)
	text, err := domainXML(in)
	if err != nil {
		t.Fatal(err)
	}
	var d libvirtxml.Domain
	if err := d.Unmarshal(text); err != nil {
		t.Fatal(err)
	}
	machine := fromDomain(d, newMetadata(in.Spec, in.Accel, time.Now()))
	if differences := vm.Compare(machine, in.Spec); len(differences) > 0 {
		t.Errorf("a machine made from a spec differs from it: %+v", differences)
	}
}

func TestVersionOf(t *testing.T) {
	for machine, want := range map[string]uint32{"pc-q35-7.2": 7_002_000, "virt-10.1": 10_001_000, "pc-q35-noble": 0} {
		if got, err := versionOf(machine); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", machine, got, err, want)
		}
	}
}

func TestVolumesOfOtherMachinesAreNotOurs(t *testing.T) {
	for _, volume := range []string{diskVolume("pi-2"), baseVolume("ab"), "pi", "pi2.disk.qcow2"} {
		if belongsTo(volume, "pi") {
			t.Errorf("%s is taken for pi's", volume)
		}
	}
	for _, volume := range []string{diskVolume("pi"), layerVolume("pi", 3), snapshotMemory("pi", "a"), nvramVolume("pi")} {
		if !belongsTo(volume, "pi") {
			t.Errorf("%s is not taken for pi's", volume)
		}
	}
}
