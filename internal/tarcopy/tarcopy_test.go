package tarcopy_test

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nationtech/fleetctl/internal/tarcopy"
)

// TestThereAndBack: a tree comes out as it went in, under its new name.
func TestThereAndBack(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{"a": "one", "sub/b": "two", "sub/empty": ""} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(from, name)), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(from, name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a", filepath.Join(from, "link")); err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	packed, err := tarcopy.Pack(t.Context(), &archive, from, "tree")
	if err != nil {
		t.Fatal(err)
	}
	again := bytes.NewReader(archive.Bytes())
	for range 2 { // what is there is replaced
		unpacked, err := tarcopy.Unpack(t.Context(), again, to, "copy")
		if err != nil || packed != unpacked || packed.Files != 3 || packed.Bytes != 6 {
			t.Fatalf("packed %+v, unpacked %+v, %v", packed, unpacked, err)
		}
		again = bytes.NewReader(archive.Bytes())
	}
	for name, text := range map[string]string{"a": "one", "sub/b": "two", "sub/empty": "", "link": "one"} {
		if got, err := os.ReadFile(filepath.Join(to, "copy", name)); err != nil || string(got) != text {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if info, err := os.Stat(filepath.Join(to, "copy", "a")); err != nil || info.Mode() != 0o640 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// TestHostile: what an archive says leads nowhere outside the directory.
func TestHostile(t *testing.T) {
	for name, headers := range map[string][]tar.Header{
		"dots":         {{Name: "x/../../../evil", Typeflag: tar.TypeReg, Mode: 0o600}},
		"absolute":     {{Name: "/etc/evil", Typeflag: tar.TypeReg, Mode: 0o600}},
		"through link": {{Name: "x", Typeflag: tar.TypeSymlink, Linkname: ".."}, {Name: "x/evil", Typeflag: tar.TypeReg, Mode: 0o600}},
		"out by link":  {{Name: "x", Typeflag: tar.TypeDir, Mode: 0o700}, {Name: "x/out", Typeflag: tar.TypeSymlink, Linkname: "../.."}, {Name: "x/out/evil", Typeflag: tar.TypeReg, Mode: 0o600}},
		"device":       {{Name: "x", Typeflag: tar.TypeChar, Mode: 0o600}},
		"hard link":    {{Name: "x", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}},
	} {
		t.Run(name, func(t *testing.T) {
			outer := t.TempDir()
			dir := filepath.Join(outer, "dir")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			var archive bytes.Buffer
			w := tar.NewWriter(&archive)
			for _, h := range headers {
				if err := w.WriteHeader(&h); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			_, err := tarcopy.Unpack(t.Context(), &archive, dir, "copy")
			_ = filepath.WalkDir(outer, func(path string, _ fs.DirEntry, _ error) error {
				if strings.HasSuffix(path, "evil") && !strings.HasPrefix(path, dir+"/copy") {
					t.Errorf("%s was written (%v)", path, err)
				}
				return nil
			})
			if err == nil && name != "dots" && name != "absolute" {
				t.Error("it was taken")
			}
		})
	}
}
