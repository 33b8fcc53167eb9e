package hosttest

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Tree describes everything on the host that lasts: type, mode, owner, time of
// change and content of each entry below /etc, /home, /var and /usr/local.
// Two equal trees mean that nothing was touched in between.
func (s *Scratch) Tree(t testing.TB) map[string]string {
	t.Helper()
	tree := map[string]string{}
	for _, top := range []string{"/etc", "/home", "/var", "/usr/local"} {
		base := s.Path(top)
		if top == "/usr/local" {
			base = filepath.Join(s.root, ".local")
		}
		err := filepath.WalkDir(base, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			name := top + strings.TrimPrefix(p, base)
			tree[name], err = describe(p, d)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

func describe(p string, d fs.DirEntry) (string, error) {
	info, err := d.Info()
	if err != nil {
		return "", err
	}
	what := ""
	switch {
	case info.Mode().IsRegular():
		b, err := os.ReadFile(p)
		if err != nil {
			return "", err
		}
		what = fmt.Sprintf("%x", sha256.Sum256(b))
	case info.Mode()&fs.ModeSymlink != 0:
		if what, err = os.Readlink(p); err != nil {
			return "", err
		}
	}
	sys := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%s %d:%d %d %s", info.Mode(), sys.Uid, sys.Gid, info.ModTime().UnixNano(), what), nil
}

// Differ lists the names whose entries differ between two trees.
func Differ(before, after map[string]string) []string {
	var names []string
	for n, d := range before {
		if after[n] != d {
			names = append(names, n)
		}
	}
	for n := range after {
		if _, ok := before[n]; !ok {
			names = append(names, n)
		}
	}
	return names
}
