//go:build vm && cgo && libvirt_dlopen

package libvirt_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/assets"
	"github.com/nationtech/fleetctl/internal/testhost/sandbox"
	"github.com/nationtech/fleetctl/vm"
	"github.com/nationtech/fleetctl/vm/guest"
	"github.com/nationtech/fleetctl/vm/libvirt"
)

const bootLimit = 6 * time.Minute // emulated, on a loaded machine

// spec is a machine that can be logged in to with the key at the path.
func spec(t testing.TB, name string, image vm.Image, arch vm.Arch) (vm.Spec, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "id")
	key, err := assets.EnsureSSHKey(path, "test")
	if err != nil {
		t.Fatal(err)
	}
	private, public, err := assets.NewSSHKey("")
	if err != nil {
		t.Fatal(err)
	}
	return vm.Spec{
		Name: name, Arch: arch, MemoryMiB: 1024, DiskGiB: 4, Image: image,
		FirstBoot: vm.FirstBoot{AuthorizedKeys: []string{key.Authorized}, HostKeyPrivate: vm.Secret(private), HostKeyPublic: public},
	}.WithDefaults(), path
}

func create(t *testing.T, h *libvirt.Hypervisor, s vm.Spec) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := h.Delete(ctx, s.Name); err != nil && !errors.Is(err, vm.ErrNotFound) {
			t.Error(err)
		}
	})
	if created, err := h.Create(t.Context(), s); err != nil || !created {
		t.Fatalf("create: %v, %v", created, err)
	}
}

func await(t *testing.T, h *libvirt.Hypervisor, name string) vm.VM {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	report := func(phase vm.Phase, since time.Duration) { t.Logf("%s: %s after %.1f s", name, phase, since.Seconds()) }
	machine, err := vm.Waiter{Hypervisor: h, Console: h, Report: report}.Wait(ctx, name, vm.WaitSSH)
	if err != nil {
		t.Fatal(err)
	}
	return machine
}

// in runs a command in the guest.
func in(t *testing.T, machine vm.VM, key, command string) string {
	t.Helper()
	var client *guest.Client
	var err error
	// sshd greets before logind and PAM are ready to let anyone in.
	for deadline := time.Now().Add(time.Minute); ; {
		client, err = guest.Dial(t.Context(), guest.Target{Address: machine.Address, User: machine.User, KeyPath: key, HostKey: machine.HostKey})
		if err == nil || time.Now().After(deadline) {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	out, err := client.Output(t.Context(), command)
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return strings.TrimSpace(out)
}

// judge runs an outside program that must be content.
func judge(t *testing.T, stdin string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath(args[0]); err != nil {
		t.Fatalf("the judge %s is not installed", args[0])
	}
	command := exec.Command(args[0], args[1:]...)
	command.Stdin = strings.NewReader(stdin)
	if out, err := command.CombinedOutput(); err != nil {
		t.Errorf("%v: %v\n%s", args, err, out)
	}
}

func dumpXML(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("virsh", "dumpxml", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestLifeOfAMachine(t *testing.T) {
	sandbox.LeavesNothing(t)
	h := open(t)
	s, key := spec(t, "life", builtImage(t, vm.X86_64), vm.X86_64)
	create(t, h, s)
	machine := await(t, h, s.Name)
	if got := in(t, machine, key, "hostname; sudo id -u"); got != "life\n0" {
		t.Errorf("hostname and sudo: %q", got)
	}

	start := time.Now()
	if created, err := h.Create(t.Context(), s); err != nil || created {
		t.Errorf("second create: %v, %v, want nothing to do", created, err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("second create took %s, want at most 2 s", took)
	}
	other := s
	other.CPUs, other.FirstBoot.User = 1, "other"
	different := (*vm.DifferentError)(nil)
	if _, err := h.Create(t.Context(), other); !errors.As(err, &different) || len(different.Differences) != 2 {
		t.Errorf("create with another spec: %v", err)
	}

	file := filepath.Join(t.TempDir(), "domain.xml")
	if err := os.WriteFile(file, []byte(dumpXML(t, s.Name)), 0o600); err != nil {
		t.Fatal(err)
	}
	judge(t, "", "virt-xml-validate", file, "domain")

	in(t, machine, key, "echo kept | sudo tee /marker && sync")
	if err := h.CreateSnapshot(t.Context(), s.Name, "one"); err != nil {
		t.Fatal(err)
	}
	in(t, machine, key, "sudo rm /marker")
	if err := h.RestoreSnapshot(t.Context(), s.Name, "one"); err != nil {
		t.Fatal(err)
	}
	if got := in(t, machine, key, "cat /marker"); got != "kept" {
		t.Errorf("after restoring /marker is %q", got)
	}
	if err := h.DeleteSnapshot(t.Context(), s.Name, "one"); err != nil {
		t.Fatal(err)
	}

	if _, err := h.Resize(t.Context(), s.Name, vm.Size{DiskGiB: 6, CPUs: 1, MemoryMiB: 768}); err != nil {
		t.Fatal(err)
	}
	in(t, machine, key, "sync")
	if err := h.Power(t.Context(), s.Name, vm.PowerCycle); err != nil {
		t.Fatal(err)
	}
	machine = await(t, h, s.Name)
	fields := strings.Fields(in(t, machine, key, "cat /marker; nproc; df --output=size -BM / | tail -n1 | tr -d M; free -m | awk '/^Mem/{print $2}'"))
	if len(fields) != 4 || fields[0] != "kept" || fields[1] != "1" {
		t.Fatalf("marker, processors and disk after the power cycle: %q", fields)
	}
	if size, err := strconv.Atoi(fields[2]); err != nil || size < 5500 {
		t.Errorf("the root file system has %s MiB, want almost 6 GiB", fields[2])
	}
	if size, err := strconv.Atoi(fields[3]); err != nil || size > 768 || size < 600 {
		t.Errorf("the guest has %s MiB of memory, want almost 768", fields[3])
	}
	if err := h.Power(t.Context(), s.Name, vm.PowerCut); err != nil {
		t.Fatal(err)
	}
	disks, err := filepath.Glob("/var/lib/libvirt/images/fleet/life.disk*.qcow2")
	if err != nil || len(disks) == 0 {
		t.Fatalf("disks: %q, %v", disks, err)
	}
	for _, disk := range disks {
		judge(t, "", "qemu-img", "check", disk)
		judge(t, "", "qemu-img", "info", "--backing-chain", disk)
	}
	if err := h.Delete(t.Context(), s.Name); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Get(t.Context(), s.Name); !errors.Is(err, vm.ErrNotFound) {
		t.Errorf("after delete: %v", err)
	}
}
