package lockfile

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/nationtech/fleetctl/internal/hint"
)

func TestOneHolderAtATime(t *testing.T) {
	dir := t.TempDir()
	first, err := Acquire(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Acquire(dir)
	if err == nil {
		t.Fatal("two locks on one directory")
	}
	if pid := strconv.Itoa(os.Getpid()); !strings.Contains(err.Error(), "process "+pid) || !strings.Contains(hint.Of(err), "kill "+pid) {
		t.Errorf("error %q with hint %q does not name process %s", err, hint.Of(err), pid)
	}
	first.Release()
	second, err := Acquire(dir)
	if err != nil {
		t.Fatalf("a released directory is still locked: %v", err)
	}
	second.Release()
}

func TestLeftoverOfADeadProcessIsNoLock(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "lock"), []byte("4194304999\nmore than a process id\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Acquire(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	data, err := os.ReadFile(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	if want := strconv.Itoa(os.Getpid()) + "\n"; string(data) != want {
		t.Errorf("lock file has %q, want %q", data, want)
	}
}
