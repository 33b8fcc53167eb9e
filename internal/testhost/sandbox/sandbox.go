// Package sandbox runs the tests of virtual machines on a libvirt of their own
// (scripts/vm-sandbox), on images made from packages (scripts/build-image), and
// looks for what they leave behind.
package sandbox

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// insideMark holds the process id of the test program outside of the sandbox.
const insideMark = "FLEETCTL_TEST_IN_SANDBOX"

// Repository is the root of the checkout that this package was built from, seen
// from a test's directory.
func Repository() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "scripts/vm-sandbox")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no scripts/vm-sandbox in %s or above it: run the tests in a checkout of the project", start)
		}
	}
}

// Main is for TestMain: it runs the test program again inside a sandbox of its
// own, and there its tests. It gives the exit code.
func Main(m *testing.M) int {
	switch {
	case os.Getenv(insideMark) != "":
		return m.Run()
	case os.Getuid() != 0:
		fmt.Println("SKIP: virtual machines are tested in namespaces of their own, which needs root")
		return 0
	}
	root, err := Repository()
	if err != nil {
		fmt.Println(err)
		return 1
	}
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
		command := exec.Command(filepath.Join(root, "scripts/vm-sandbox"), args...)
		command.Env = append(os.Environ(), "FLEETCTL_SANDBOX="+state, insideMark+"="+strconv.Itoa(os.Getpid()))
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

// Gateway is the machine's own address in the network of its guests.
func Gateway(t testing.TB) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ip", "-4", "-o", "addr", "show", "virbr0").Output()
	if err != nil {
		t.Fatalf("address of the guests' bridge: %v", err)
	}
	_, rest, _ := strings.Cut(string(out), "inet ")
	address, _, ok := strings.Cut(rest, "/")
	if !ok {
		t.Fatalf("address of the guests' bridge: %q", out)
	}
	return address
}

// Image is the path of an image for the architecture (x86_64, aarch64) that has
// all that a device needs. The first call for one takes minutes, and that of a
// foreign architecture five or more.
func Image(t testing.TB, arch string) string {
	t.Helper()
	root, err := Repository()
	if err != nil {
		t.Fatal(err)
	}
	// Packages come from outside, where the sandbox does not lead.
	command := exec.CommandContext(t.Context(), "nsenter", "--net", "--target", os.Getenv(insideMark),
		filepath.Join(root, "scripts/build-image"), "--device", "--arch", arch)
	command.Stderr = lines{t}
	out, err := command.Output()
	if err != nil {
		t.Fatalf("build an image: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// LeavesNothing compares what a machine could leave behind before and after
// the test: domains, pools, leases, files. Lines that hold one of but are left out.
func LeavesNothing(t *testing.T, but ...string) {
	t.Helper()
	look := func() string {
		return strings.Join(slices.DeleteFunc(strings.Split(Inventory(t), "\n"), func(line string) bool {
			return slices.ContainsFunc(but, func(part string) bool { return strings.Contains(line, part) })
		}), "\n")
	}
	before := look()
	t.Cleanup(func() {
		if t.Skipped() {
			return
		}
		if after := look(); after != before {
			t.Errorf("something stayed behind:\n--- before\n%s--- after\n%s", before, after)
		}
	})
}

// Inventory lists everything that a machine could leave behind.
func Inventory(t *testing.T) string {
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

// lines logs what a program says.
type lines struct{ t testing.TB }

func (l lines) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}
