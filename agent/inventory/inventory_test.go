package inventory

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/nationtech/fleetctl/internal/wire"
)

func TestCollect(t *testing.T) {
	root := t.TempDir()
	for path, content := range map[string]string{
		"proc/sys/kernel/hostname":         "pi-1\n",
		"proc/sys/kernel/osrelease":        "6.12.0-rpi\n",
		"proc/sys/kernel/random/boot_id":   "0a1b\n",
		"proc/meminfo":                     "MemTotal:        3884384 kB\nMemFree: 1 kB\n",
		"proc/device-tree/model":           "Raspberry Pi 4 Model B Rev 1.4\x00",
		"etc/os-release":                   "# comment\nNAME=x\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n",
		"sys/fs/cgroup/cgroup.controllers": "cpu\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, path), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got := Collect(root, root)
	if got.DiskBytes == 0 {
		t.Error("no size of the disk")
	}
	got.DiskBytes = 0
	want := wire.Inventory{
		Hostname: "pi-1", OS: "Debian GNU/Linux 13 (trixie)", Kernel: "6.12.0-rpi", Architecture: runtime.GOARCH,
		Model: "Raspberry Pi 4 Model B Rev 1.4", CPUs: runtime.NumCPU(), MemoryBytes: 3884384 << 10, BootID: "0a1b", CgroupsVersion: "v2",
	}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// A machine that says nothing gives an inventory all the same.
func TestCollectNothing(t *testing.T) {
	got := Collect(t.TempDir(), "/does/not/exist")
	if want := (wire.Inventory{Architecture: runtime.GOARCH, CPUs: runtime.NumCPU()}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
