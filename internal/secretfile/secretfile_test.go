package secretfile_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/secretfile"
)

func TestLoadOrCreateMakesOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if err := secretfile.EnsureDir(dir); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "key")

	// Many creators at once: all must end with the same content.
	got := make([]string, 16)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			data, err := secretfile.LoadOrCreate(path, func() ([]byte, error) { return []byte{byte('a' + i)}, nil })
			if err != nil {
				t.Error(err)
			}
			got[i] = string(data)
		})
	}
	wg.Wait()
	for _, g := range got {
		if g != got[0] || g == "" {
			t.Fatalf("creators disagree: %q", got)
		}
	}
	assertOnly(t, dir, "key")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
}

func TestReadRefusesWhatOthersCanRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := secretfile.Write(path, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	_, err := secretfile.Read(path)
	if err == nil || hint.Of(err) == "" {
		t.Fatalf("want a refusal with a hint, got %v", err)
	}
	_, err = secretfile.LoadOrCreate(path, func() ([]byte, error) { return []byte("new"), nil })
	if err == nil {
		t.Fatal("a readable secret was accepted or replaced")
	}
}

// What root shows to a group is readable for its members that are not root, as a
// Secret in a pod is; what the group may write, or everybody reads, is not.
func TestReadTakesWhatRootShows(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("makes files of root's")
	}
	const group = 1_000_650_000
	dir := t.TempDir()
	for at := dir; at != os.TempDir(); at = filepath.Dir(at) {
		if err := os.Chmod(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name  string
		mode  os.FileMode
		owner int
		good  bool
	}{
		{"shown", 0o440, 0, true}, {"writable", 0o460, 0, false}, {"everybody", 0o444, 0, false}, {"of-another", 0o440, 4711, false},
	} {
		path := filepath.Join(dir, tt.name)
		err := os.WriteFile(path, []byte("x"), 0o600)
		if err == nil {
			err = errors.Join(os.Chown(path, tt.owner, group), os.Chmod(path, tt.mode))
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := asPod(t, group, path); (err == nil) != tt.good {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// asPod reads a secret in a process of its own, whose user and group nobody knows.
func asPod(t *testing.T, id uint32, path string) error {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(filepath.Dir(path), "read")
	data, err := os.ReadFile(self)
	if err == nil {
		err = os.WriteFile(program, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = []string{readVar + "=" + path}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: 0, Groups: []uint32{id}}}
	return cmd.Run()
}

// readVar makes this program read a secret in place of its tests.
const readVar = "SECRETFILE_TEST_READ"

func TestMain(m *testing.M) {
	if path := os.Getenv(readVar); path != "" {
		if _, err := secretfile.Read(path); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestEnsureDirRefusesOpenDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := secretfile.EnsureDir(dir); err == nil {
		t.Fatal("accepted a directory that others may enter")
	}
}

func TestFailureLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	broken := errors.New("no entropy")
	if _, err := secretfile.LoadOrCreate(path, func() ([]byte, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	assertOnly(t, dir)

	// A rename onto a directory fails after the temporary file was written.
	if err := os.MkdirAll(filepath.Join(path, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := secretfile.Write(path, []byte("x")); err == nil {
		t.Fatal("wrote over a directory")
	}
	assertOnly(t, dir, "key")
	if _, err := secretfile.Read(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func assertOnly(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if len(names) != len(want) {
		t.Fatalf("directory has %q, want %q", names, want)
	}
	for i := range want {
		if names[i] != want[i] {
			t.Fatalf("directory has %q, want %q", names, want)
		}
	}
}
