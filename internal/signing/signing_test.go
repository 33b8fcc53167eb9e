package signing_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/signing"
	"github.com/nationtech/fleetctl/internal/wire"
)

func TestSealedForPinnedKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	first, err := signing.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	file, err := first.PinnedJSON()
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := wire.ParsePinnedKeys(file)
	if err != nil || len(pinned) != 2 || pinned[0].Equal(pinned[1]) {
		t.Fatalf("want two different keys, got %d, %v", len(pinned), err)
	}

	// What a restarted server signs, a device of before accepts.
	again, err := signing.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := again.Seal(wire.KindManifest, wire.Manifest{Device: "pi-1", Revision: 7})
	if err != nil {
		t.Fatal(err)
	}
	var m wire.Manifest
	if err := wire.Open(wire.KindManifest, sealed, pinned, &m); err != nil || m.Revision != 7 {
		t.Fatalf("%+v, %v", m, err)
	}
	if err := wire.Open(wire.KindManifest, sealed, pinned[1:], &m); err == nil {
		t.Error("the successor signed already")
	}
}

func TestDamagedKeyIsNotReplaced(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	if _, err := signing.Open(dir); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "signing.key")
	if err := os.WriteFile(path, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := signing.Open(dir); err == nil || hint.Of(err) == "" {
		t.Fatalf("want an error with a hint, got %v", err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "broken" {
		t.Errorf("the key was replaced: %q, %v", data, err)
	}
}
