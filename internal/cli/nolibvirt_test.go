package cli

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestWithoutLibvirt: all of fleetctl builds without a C compiler; what needs
// libvirt is done by fleetctl-vm, or says that it is not there. -trimpath as in the Makefile, so that packages are shared.
func TestWithoutLibvirt(t *testing.T) {
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
		if err == nil || !strings.Contains(out, "built without libvirt") || !strings.Contains(out, "hint: build both with make build") {
			t.Errorf("fleetctl %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	if out, _ := run("doctor"); !strings.Contains(out, "built without libvirt") { // fails for other reasons, too
		t.Errorf("fleetctl doctor:\n%s", out)
	}

	played := "#!/bin/sh\necho \"fleetctl-vm: $*\"\nexit 7\n"
	if err := os.WriteFile(filepath.Join(filepath.Dir(program), "fleetctl-vm"), []byte(played), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	for _, args := range [][]string{{"-v", "vm", "delete", "pi", "--yes"}, {"doctor", "--output", "json"}, {"__complete", "vm", "delete", ""}} {
		out, err := run(args...)
		exit := (*exec.ExitError)(nil)
		if want := "fleetctl-vm: " + strings.Join(args, " ") + "\n"; out != want || !errors.As(err, &exit) || exit.ExitCode() != 7 {
			t.Errorf("handed over as %q, %v, want %q and 7", out, err, want)
		}
	}
	if out, err := run("vm", "delete"); err == nil || !strings.Contains(out, "fleetctl-vm: vm delete") {
		t.Errorf("fleetctl vm delete: %v\n%s", err, out)
	}
	if out, err := run("image", "list"); err != nil || !strings.Contains(out, "debian-13") {
		t.Errorf("fleetctl image list: %v\n%s", err, out)
	}
}
