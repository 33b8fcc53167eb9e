package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/wire"
)

func desired(revision uint64, content string) *Desired {
	return &Desired{
		SchemaVersion: 1,
		Manifest: wire.Manifest{SchemaVersion: 1, Device: "pi-1", Revision: revision, Deployments: []wire.ManifestEntry{
			{Name: "web", SHA256: wire.Hash([]byte(content))},
		}},
		States: map[string][]byte{"web": []byte(content)},
	}
}

func TestDesiredRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "on", "demand")
	if d, problem := LoadDesired(dir); d != nil || problem != nil {
		t.Fatalf("a fresh device: got %v, %v", d, problem)
	}
	for revision := uint64(1); revision <= 3; revision++ {
		want := desired(revision, fmt.Sprint("v", revision))
		if err := SaveDesired(dir, want); err != nil {
			t.Fatal(err)
		}
		got, problem := LoadDesired(dir)
		if problem != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v, want %+v", got, problem, want)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("want the current and the previous file only, got %v, %v", entries, err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", e.Name(), info.Mode(), err)
		}
	}
}

// However the file is cut or changed, the previous version is what is used.
func TestDesiredTorn(t *testing.T) {
	for name, tear := range map[string]func([]byte) []byte{
		"empty":       func([]byte) []byte { return nil },
		"cut":         func(b []byte) []byte { return b[:len(b)/2] },
		"one bit":     func(b []byte) []byte { b[len(b)-5] ^= 1; return b },
		"zero-filled": func(b []byte) []byte { return make([]byte, len(b)) },
		"no checksum": func(b []byte) []byte { return b[72:] },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for revision := uint64(1); revision <= 2; revision++ {
				if err := SaveDesired(dir, desired(revision, "x")); err != nil {
					t.Fatal(err)
				}
			}
			current := filepath.Join(dir, desiredFile)
			content, err := os.ReadFile(current)
			if err != nil {
				t.Fatal(err)
			}
			// In place of the name, not of the inode that previous shares.
			if err := os.Remove(current); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(current, tear(content), 0o600); err != nil {
				t.Fatal(err)
			}
			got, problem := LoadDesired(dir)
			if got == nil || got.Manifest.Revision != 1 || !errors.Is(problem, ErrTorn) {
				t.Fatalf("got %+v, %v", got, problem)
			}
			// A save now must not push the torn file over the good one.
			if err := SaveDesired(dir, desired(3, "x")); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(current, 10); err != nil {
				t.Fatal(err)
			}
			if got, _ := LoadDesired(dir); got == nil || got.Manifest.Revision != 1 {
				t.Errorf("after a save over a torn file: got %+v", got)
			}
		})
	}
}

func TestDesiredCurrent(t *testing.T) {
	d := desired(1, "x")
	if _, ok := d.Current(d.Manifest.Deployments[0]); !ok {
		t.Error("the right state is not current")
	}
	if _, ok := d.Current(wire.ManifestEntry{Name: "web", SHA256: wire.Hash([]byte("y"))}); ok {
		t.Error("another version's state is current")
	}
	if _, ok := d.Current(wire.ManifestEntry{Name: "db", SHA256: wire.Hash(nil)}); ok {
		t.Error("a missing state is current")
	}
}

func TestNonces(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	expires := now.Add(time.Minute)
	n, err := OpenNonces(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Use("a", expires, now); err != nil {
		t.Fatal(err)
	}
	if err := n.Use("a", expires, now); !errors.Is(err, ErrReplayed) {
		t.Errorf("second use: %v", err)
	}
	restarted, err := OpenNonces(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := restarted.Use("a", expires, now); !errors.Is(err, ErrReplayed) {
		t.Errorf("use after a restart: %v", err)
	}
	for i := range MaxNonces - 1 {
		restarted.seen[fmt.Sprint("filler", i)] = expires.Add(nonceMemory)
	}
	if err := restarted.Use("b", expires, now); !errors.Is(err, ErrFull) {
		t.Errorf("when full: %v", err)
	}
	if err := restarted.Use("b", expires, now.Add(2*nonceMemory)); err != nil {
		t.Errorf("after the others expired: %v", err)
	}
	if len(restarted.seen) != 1 {
		t.Errorf("%d nonces are kept, want 1", len(restarted.seen))
	}
}

func TestNoncesNotRemembered(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	n := &Nonces{path: filepath.Join(file, noncesFile), seen: map[string]time.Time{}}
	if err := n.Use("a", time.Now(), time.Now()); err == nil {
		t.Error("a nonce that is not on disk was accepted")
	}
}

func TestTagKey(t *testing.T) {
	dir := t.TempDir()
	for _, derived := range []string{"first", "second"} {
		key, err := TagKey(dir, []byte(derived))
		if err != nil || string(key) != "first" {
			t.Errorf("derived %s: %q, %v", derived, key, err)
		}
	}
	if key, err := TagKey("/proc/none", []byte("third")); err == nil || string(key) != "third" {
		t.Errorf("where nothing can be written: %q, %v", key, err)
	}
}

func TestTidy(t *testing.T) {
	dir := t.TempDir()
	if err := SaveDesired(dir, desired(1, "x")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".new-123"), []byte("cut o"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Tidy(dir); err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); len(left) != 0 || err != nil {
		t.Errorf("left: %v, %v", left, err)
	}
	if got, problem := LoadDesired(dir); got == nil || problem != nil {
		t.Errorf("what was written whole is gone: %v", problem)
	}
}
