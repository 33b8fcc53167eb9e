package beside

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestFind(t *testing.T) {
	root := t.TempDir()
	bin, libexec := filepath.Join(root, "bin"), filepath.Join(root, "libexec", "fleetctl")
	for _, dir := range []string{bin, libexec, filepath.Join(bin, "both")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{filepath.Join(bin, "near"), filepath.Join(libexec, "near"), filepath.Join(libexec, "apart"), filepath.Join(libexec, "both")} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"near":  filepath.Join(bin, "near"),
		"apart": filepath.Join(libexec, "apart"),
		"both":  filepath.Join(libexec, "both"), // a directory is no program
	} {
		if got, err := find(bin, name); got != want || err != nil {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
	if got, err := find(bin, "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %q, %v", got, err)
	}
}
