//go:build vm && cgo && libvirt_dlopen

package libvirt_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nationtech/fleetctl/assets"
	"github.com/nationtech/fleetctl/firmware"
	"github.com/nationtech/fleetctl/vm"
	"github.com/nationtech/fleetctl/vm/libvirt"
)

// These tests make real machines on a libvirt of their own: TestMain runs the
// test program again inside scripts/vm-sandbox.

const insideMark = "FLEETCTL_TEST_IN_SANDBOX"

var repository = func() string {
	dir, err := filepath.Abs("../..")
	if err != nil {
		panic(err)
	}
	return dir
}()

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(childMark) != "":
		os.Exit(childWork())
	case os.Getenv(insideMark) != "":
		os.Exit(m.Run())
	case os.Getuid() != 0:
		fmt.Println("SKIP: virtual machines are tested in namespaces of their own, which needs root")
		os.Exit(0)
	}
	os.Exit(inSandbox())
}

func inSandbox() int {
	state, err := os.MkdirTemp("", "fleetctl-vm-test-")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	self, err := os.Executable()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	sandbox := func(args ...string) int {
		command := exec.Command(filepath.Join(repository, "scripts/vm-sandbox"), args...)
		command.Env = append(os.Environ(), "FLEETCTL_SANDBOX="+state, insideMark+"=1")
		command.Stdout, command.Stderr = os.Stdout, os.Stderr
		if err := command.Run(); err != nil {
			fmt.Println("vm-sandbox:", err)
			return 1
		}
		return 0
	}
	code := sandbox(append([]string{"exec", self}, os.Args[1:]...)...)
	return max(code, sandbox("purge"))
}

// open connects to the sandbox's libvirt, with locks of the test's own.
func open(t testing.TB) *libvirt.Hypervisor {
	t.Helper()
	h, err := libvirt.Open(t.Context(), libvirt.Config{
		CacheDir: t.TempDir(),
		Firmware: firmware.NewFinder(""),
		Log:      slog.New(slog.NewTextHandler(testWriter{t}, nil)),
		Report:   func(line string) { t.Log(line) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// builtImage is an image made from packages. That of aarch64 takes many minutes
// under emulation, so that tests use it only where it was made before.
func builtImage(t testing.TB, arch vm.Arch) vm.Image {
	t.Helper()
	var path string
	if arch == vm.HostArch() {
		command := exec.CommandContext(t.Context(), filepath.Join(repository, "scripts/build-image"), "--arch", string(arch))
		command.Stderr = testWriter{t}
		out, err := command.Output()
		if err != nil {
			t.Fatalf("build an image: %v", err)
		}
		path = strings.TrimSpace(string(out))
	} else {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		found, err := filepath.Glob(filepath.Join(cache, "fleetctl/built/debian-*-"+string(arch)+"-*.qcow2"))
		if err != nil || len(found) == 0 {
			t.Skipf("no image for %s is here; make one with: scripts/build-image --arch %s", arch, arch)
		}
		path = found[len(found)-1]
	}
	image, err := (&assets.Store{}).Open(t.Context(), assets.Ref{Name: path, Arch: string(arch)})
	if err != nil {
		t.Fatal(err)
	}
	return vm.Image{Name: image.Name, Path: image.Path, SHA256: image.SHA256, Format: image.Format, Size: image.Size}
}

// inventory lists everything that a machine could leave behind.
func inventory(t *testing.T) string {
	t.Helper()
	var out bytes.Buffer
	for _, args := range [][]string{
		{"virsh", "-q", "list", "--all"}, {"virsh", "-q", "pool-list", "--all"}, {"virsh", "-q", "net-dhcp-leases", "default"},
		{"find", "/var/lib/libvirt/images", "/var/lib/libvirt/qemu", "/etc/libvirt/qemu", "/etc/libvirt/storage", "-type", "f"},
	} {
		command := exec.Command(args[0], args[1:]...) // also after the test's context has ended
		command.Stdout = &out
		if err := command.Run(); err != nil && args[0] != "find" { // a directory may not be there yet
			t.Fatalf("%v: %v\n%s", args, err, out.String())
		}
	}
	return out.String()
}

// leavesNothing compares the inventory before and after the test.
func leavesNothing(t *testing.T) {
	t.Helper()
	before := inventory(t)
	t.Cleanup(func() {
		if t.Skipped() {
			return
		}
		if after := inventory(t); after != before {
			t.Errorf("something stayed behind:\n--- before\n%s--- after\n%s", before, after)
		}
	})
}
