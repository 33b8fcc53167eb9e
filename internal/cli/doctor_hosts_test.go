//go:build hosts

package cli

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nationtech/fleetctl/internal/testhost"
)

// TestDoctorFixesARealHost: a Debian with nothing on it can run virtual
// machines afterwards, as far as its own libvirt says.
func TestDoctorFixesARealHost(t *testing.T) {
	h := testhost.Start(t, testhost.Options{})
	for name, args := range map[string][]string{
		"fleetctl":    {"CGO_ENABLED=0", "go", "build", "-trimpath"},
		"fleetctl-vm": {"go", "build", "-trimpath", "-tags", "libvirt_dlopen"},
	} {
		program := filepath.Join(t.TempDir(), name)
		build := exec.CommandContext(t.Context(), "env", append(args, "-o", program, "github.com/nationtech/fleetctl/cmd/fleetctl")...)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", name, err, out)
		}
		copyProgram(t, program, h.Root()+"/usr/local/bin/"+name)
	}
	run := func(script string, code int, wants ...string) {
		t.Helper()
		out, err := h.Run(t.Context(), script)
		if err != nil {
			t.Fatal(err)
		}
		if out.ExitCode != code {
			t.Errorf("%s: exit code %d, want %d", script, out.ExitCode, code)
		}
		for _, want := range wants {
			if !strings.Contains(out.Stdout+out.Stderr, want) {
				t.Errorf("%s: no %q in\n%s%s", script, want, out.Stdout, out.Stderr)
			}
		}
	}
	run("fleetctl doctor", 1, "missing  libvirt", "sudo fleetctl doctor --fix")
	run("fleetctl doctor --fix", 4, "packages:virtual-machines", "add --yes")
	run("command -v libvirtd", 127) // nothing was changed without a word
	run("SUDO_USER=pi fleetctl doctor --fix --yes", 0,
		"ok       libvirt", "ok       network default", "ok       UEFI x86_64", "ok       UEFI aarch64", "ok       emulator aarch64", "newgrp libvirt")
	run("SUDO_USER=pi fleetctl doctor --fix --yes", 0, "nothing has to be installed")
	run("runuser -u pi -- fleetctl doctor", 0, "pi is in it", "ok       libvirt")
	run("runuser -u pi -- fleetctl doctor --fix", 2, "sudo fleetctl doctor --fix")
}

func copyProgram(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
