//go:build vm && cgo && libvirt_dlopen

package libvirt_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/nationtech/fleetctl/firmware"
	"github.com/nationtech/fleetctl/internal/testhost/sandbox"
	"github.com/nationtech/fleetctl/vm"
)

// unpadded is firmware for aarch64 as some distributions ship it: as large as
// it is, and not 64 MiB.
func unpadded(t *testing.T) firmware.Known {
	t.Helper()
	code, err := os.ReadFile("/usr/share/qemu-efi-aarch64/QEMU_EFI.fd")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	k := firmware.Known{Arch: "aarch64", Code: filepath.Join(dir, "code.fd"), Vars: filepath.Join(dir, "vars.fd")}
	for path, data := range map[string][]byte{k.Code: code, k.Vars: make([]byte, 768<<10)} {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

func TestPaddedFirmwareIsSharedWhileItIsUsed(t *testing.T) {
	sandbox.LeavesNothing(t)
	h := open(t)
	h.Firmware = firmware.Finder{Paths: []firmware.Known{unpadded(t)}}
	image := builtImage(t, vm.X86_64) // never reached: the machines only have to start
	inPool := func() int {
		found, err := filepath.Glob("/var/lib/libvirt/images/fleet/_firmware.*.fd")
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			if info, err := os.Stat(path); err != nil || info.Size() != 64<<20 {
				t.Errorf("%s: %v, %v; want 64 MiB", path, info.Size(), err)
			}
		}
		return len(found)
	}
	var group sync.WaitGroup
	for i := range 3 {
		s, _ := spec(t, fmt.Sprintf("padded-%d", i), image, vm.AArch64)
		s.MemoryMiB, s.CPUs = 256, 1
		group.Go(func() {
			if created, err := h.Create(t.Context(), s); err != nil || !created {
				t.Errorf("create: %v, %v", created, err)
			}
		})
	}
	group.Wait()
	for left := 3; left > 0; left-- {
		if got := inPool(); got != 2 {
			t.Errorf("%d firmware files in the pool with %d machines left, want code and variables", got, left)
		}
		name := fmt.Sprintf("padded-%d", left-1)
		machine, err := h.Get(t.Context(), name)
		if err != nil || machine.State != vm.Running {
			t.Errorf("%s: %s, %v", name, machine.State, err)
		}
		if err := h.Delete(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
}
