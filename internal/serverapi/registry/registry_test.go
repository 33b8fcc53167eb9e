package registry_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/serverapi/registry"
)

func TestRegistry(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "registry")
	r := open(t, dir)
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	later := now.Add(time.Hour)

	if !r.Denied("pi-1") {
		t.Error("an unknown id may connect")
	}
	enrol(t, r, "pi-1", "machine-a", false, now)
	if r.Denied("pi-1") {
		t.Error("an enrolled id may not connect")
	}
	if e := enrol(t, r, "pi-1", "machine-a", false, later); !e.Enrolled.Equal(now) {
		t.Error("enrolling again changed the entry")
	}
	if _, err := r.Enrol("pi-1", "machine-b", false, later); !errors.Is(err, registry.ErrOtherMachine) {
		t.Fatalf("another machine took the id: %v", err)
	}
	if _, err := r.Enrol("../x", "machine-a", false, now); err == nil {
		t.Error("accepted an id that leaves the directory")
	}
	if _, err := r.Revoke("pi-2", now); !errors.Is(err, registry.ErrUnknown) {
		t.Errorf("revoked an unknown id: %v", err)
	}
	if _, err := r.Revoke("pi-1", later); err != nil {
		t.Fatal(err)
	}

	// All of it lasts.
	r = open(t, dir)
	if e, ok := r.Get("pi-1"); !ok || e.MachineID != "machine-a" || !e.Revoked.Equal(later) || !r.Denied("pi-1") {
		t.Errorf("after a restart: %+v", e)
	}
	if _, err := r.Enrol("pi-1", "machine-b", false, later); !errors.Is(err, registry.ErrOtherMachine) {
		t.Errorf("a revoked id went to another machine: %v", err)
	}
	enrol(t, r, "pi-1", "machine-b", true, later)
	if e, _ := open(t, dir).Get("pi-1"); e.MachineID != "machine-b" || !e.Revoked.IsZero() {
		t.Errorf("after replacing: %+v", e)
	}
}

func TestDamagedEntryIsNoFreePass(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "registry")
	enrol(t, open(t, dir), "pi-1", "machine-a", false, time.Now())
	for _, content := range []string{"", "{", `{"device":"pi-2"}`} {
		if err := os.WriteFile(filepath.Join(dir, "pi-1.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := registry.Open(dir); err == nil {
			t.Errorf("opened with %q", content)
		}
	}
}

func open(t *testing.T, dir string) *registry.Registry {
	t.Helper()
	r, err := registry.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func enrol(t *testing.T, r *registry.Registry, id, machine string, replace bool, now time.Time) registry.Entry {
	t.Helper()
	e, err := r.Enrol(id, machine, replace, now)
	if err != nil {
		t.Fatal(err)
	}
	return e
}
