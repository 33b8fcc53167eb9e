package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestWithoutCgo: all of fleetctl builds without a C compiler, and what then is
// not there says so. -trimpath as in the Makefile, so that packages are shared.
func TestWithoutCgo(t *testing.T) {
	if testing.Short() {
		t.Skip("builds fleetctl")
	}
	program := filepath.Join(t.TempDir(), "fleetctl")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", program, "github.com/nationtech/fleetctl/cmd/fleetctl")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	home := t.TempDir()
	run := func(args ...string) (string, error) {
		c := exec.CommandContext(t.Context(), program, args...)
		c.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_CACHE_HOME="+home)
		out, err := c.CombinedOutput()
		return string(out), err
	}
	for _, args := range [][]string{{"vm", "list"}, {"vm", "delete", "pi", "--yes"}, {"vm", "ssh", "pi"}, {"vm", "snapshot", "list", "pi"}} {
		out, err := run(args...)
		if err == nil || !strings.Contains(out, "built without libvirt") || !strings.Contains(out, "hint: build it with cgo: make build") {
			t.Errorf("fleetctl %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	if out, _ := run("doctor"); !strings.Contains(out, "built without libvirt") { // fails for other reasons, too
		t.Errorf("fleetctl doctor:\n%s", out)
	}
	if out, err := run("image", "list"); err != nil || !strings.Contains(out, "debian-13") {
		t.Errorf("fleetctl image list: %v\n%s", err, out)
	}
}
