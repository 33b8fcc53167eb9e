package sshhost_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nationtech/fleetctl/hostcfg"
	"github.com/nationtech/fleetctl/hostcfg/sshhost/sshtest"
)

// TestRunCutAnywhere cuts the connection at growing points of planning and
// applying: what is there then is old or new, whole, and the next run ends
// where an undisturbed one does, with nothing left beside it.
func TestRunCutAnywhere(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("files are given to root: run as root")
	}
	// A /run of its own keeps locks and markers off this machine.
	bin, state := t.TempDir(), t.TempDir()
	shell := filepath.Join(bin, "shell")
	text := "#!/bin/sh\nexec unshare -m sh -c 'mount --bind " + state + " /run && exec /bin/sh \"$@\"' sh \"$@\"\n"
	if err := os.WriteFile(shell, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, sshtest.Config{Shell: shell})
	source := filepath.Join(bin, "source")
	big := strings.Repeat("streamed\n", 20_000)
	if err := os.WriteFile(source, []byte(big), 0o600); err != nil {
		t.Fatal(err)
	}
	direct := r.target
	// once makes a host's directory, and plans and applies until cut.
	once := func(dir string, p *sshtest.Proxy, cut int64) (total int64, err error) {
		if p != nil {
			r.target = target(t, p.Addr)
			defer func() { r.target = direct }()
		}
		h := r.dial(t)
		defer func() { _ = h.Close() }()
		var before int64
		if p != nil {
			before, _ = p.Bytes()
			if cut > 0 {
				p.CutAfter(cut)
			}
		}
		plan, err := hostcfg.MakePlan(t.Context(), h, resources(dir, source))
		if err != nil {
			return 0, err
		}
		if _, err = plan.Apply(t.Context(), h, hostcfg.ApplyOptions{}); err != nil {
			return 0, err
		}
		if p != nil {
			after, _ := p.Bytes()
			total = after - before
		}
		return total, nil
	}
	p := sshtest.NewProxy(t, r.Addr, 0)
	want := newHostDir(t)
	total, err := once(want, p, 0)
	if err != nil || total == 0 {
		t.Fatalf("%d bytes, %v", total, err)
	}
	const cuts = 12
	for i := range cuts {
		at := 1 + total*int64(i)/cuts
		dir := newHostDir(t)
		if _, err := once(dir, sshtest.NewProxy(t, r.Addr, 0), at); err == nil {
			t.Errorf("cut after %d bytes: no error", at)
		}
		for name, whole := range map[string][]string{"conf": {"old\n", "new\n"}, "hosts": {"localhost\n", treeOf(t, want)["hosts"]}, "d/big": {"", big}} {
			if got, _ := os.ReadFile(filepath.Join(dir, name)); string(got) != whole[0] && string(got) != whole[1] {
				t.Errorf("cut after %d of %d bytes: %s is neither old nor new: %d bytes", at, total, name, len(got))
			}
		}
		if _, err := once(dir, nil, 0); err != nil {
			t.Errorf("cut after %d of %d bytes, then again: %v", at, total, err)
		}
		if got, want := fmt.Sprint(treeOf(t, dir)), fmt.Sprint(treeOf(t, want)); got != want {
			t.Errorf("cut after %d of %d bytes, then again: %.300s", at, total, got)
		}
	}
}

func newHostDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"conf": "old\n", "hosts": "localhost\n", "gone": "x"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func resources(dir, source string) []hostcfg.Resource {
	return []hostcfg.Resource{
		hostcfg.File{Path: dir + "/conf", Content: "new\n"},
		hostcfg.Directory{Path: dir + "/d", Mode: 0o750},
		hostcfg.File{Path: dir + "/d/big", Source: source, Mode: 0o755},
		hostcfg.File{Path: dir + "/d/größe 'x'", Content: strings.Repeat("inline\n", 5000)},
		hostcfg.Symlink{Path: dir + "/current", Target: "d"},
		hostcfg.Block{Path: dir + "/hosts", Name: "server", Content: "192.0.2.1 nats"},
		hostcfg.Absent{Path: dir + "/gone"},
	}
}

// treeOf is what is in a directory: path to content, or target.
func treeOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	tree := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		switch {
		case e.Type()&fs.ModeSymlink != 0:
			tree[name], err = os.Readlink(path)
		case e.IsDir():
			tree[name] = "directory"
		default:
			var text []byte
			text, err = os.ReadFile(path)
			tree[name] = string(text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}
