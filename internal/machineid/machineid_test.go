package machineid_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/nationtech/fleetctl/internal/machineid"
)

// The judge is systemd itself, where there is one.
func TestAgreesWithSystemd(t *testing.T) {
	if _, err := exec.LookPath("systemd-id128"); err != nil {
		t.Skip("no systemd-id128 here")
	}
	raw, err := exec.Command("systemd-id128", "machine-id").Output()
	if err != nil {
		t.Skipf("this machine has no id: %v", err)
	}
	want, err := exec.Command("systemd-id128", "machine-id", "--app-specific=6f1d3c0b9a6e4c1f8a35c2e47b9d0e58").Output()
	if err != nil {
		t.Fatal(err)
	}
	got, err := machineid.Name(string(raw))
	if err != nil || got != strings.TrimSpace(string(want)) {
		t.Fatalf("got %s, %v; systemd says %s", got, err, want)
	}
}

func TestKnownName(t *testing.T) {
	got, err := machineid.Name("0123456789abcdef0123456789abcdef\n")
	if err != nil || !machineid.Valid(got) {
		t.Fatal(got, err)
	}
	if again, _ := machineid.Name("0123456789abcdef0123456789abcdef"); again != got {
		t.Error("white space matters")
	}
	if other, _ := machineid.Name("0123456789abcdef0123456789abcdee"); other == got {
		t.Error("two machines share a name")
	}
	for _, bad := range []string{"", "uninitialized", "0123", strings.Repeat("g", 32), strings.Repeat("0", 64)} {
		if _, err := machineid.Name(bad); err == nil {
			t.Errorf("accepted %q", bad)
		}
		if machineid.Valid(bad) {
			t.Errorf("%q passes for a name", bad)
		}
	}
}
