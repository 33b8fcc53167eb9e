package localhost

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/hostcfg"
)

var (
	_ hostcfg.Host     = (*Host)(nil)
	_ hostcfg.Elevator = (*Host)(nil)
)

func TestRun(t *testing.T) {
	h := New(nil)
	res, err := h.Run(t.Context(), hostcfg.Command{Script: "cat; echo err >&2; echo $#; exit 7", Stdin: strings.NewReader("in ")})
	if err != nil || string(res.Stdout) != "in 0\n" || string(res.Stderr) != "err\n" || res.ExitCode != 7 {
		t.Errorf("%+v %v", res, err)
	}
	long := strings.Repeat("# a comment that fills the pipe's buffer\n", 10_000) + "cat; echo end"
	if res, err := h.Run(t.Context(), hostcfg.Command{Script: long}); err != nil || string(res.Stdout) != "end\n" {
		t.Errorf("long script: %+v %v", res, err)
	}
	if res, err := h.Run(t.Context(), hostcfg.Command{Script: "tr '\\0' ' ' </proc/$$/cmdline; : s3cret"}); err != nil || strings.Contains(string(res.Stdout), "s3cret") {
		t.Errorf("script on a command line: %s %v", res.Stdout, err)
	}
}

func TestRunEndsWithItsDeadline(t *testing.T) {
	h := New(nil)
	left := filepath.Join(t.TempDir(), "left")
	script := "trap 'echo cleaned >" + left + "; exit 1' TERM; echo waiting >&2; sleep 60 & wait"
	start := time.Now()
	_, err := h.Run(t.Context(), hostcfg.Command{Script: script, Timeout: 3 * time.Second}) // to come as far as that
	if err == nil || !strings.Contains(err.Error(), "no end after 3s") || !strings.Contains(err.Error(), "waiting") {
		t.Errorf("error %v", err)
	}
	if time.Since(start) > 30*time.Second {
		t.Errorf("took %s", time.Since(start))
	}
	if b, err := os.ReadFile(left); err != nil || string(b) != "cleaned\n" {
		t.Errorf("the script's trap did not run: %q %v", b, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Run(ctx, hostcfg.Command{Script: "true"}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestGet(t *testing.T) {
	h, file := New(nil), filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := h.Get(t.Context(), file, 5); err != nil || string(b) != "12345" {
		t.Errorf("%q %v", b, err)
	}
	if _, err := h.Get(t.Context(), file, 4); err == nil || !strings.Contains(err.Error(), "larger than 4") {
		t.Errorf("too large: %v", err)
	}
	if _, err := h.Get(t.Context(), file+"x", 4); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func TestPut(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: not root, files cannot be given away")
	}
	h, dir := New(nil), t.TempDir()
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(hostcfg.TempPath(file), []byte("of a killed run"), 0o600); err != nil {
		t.Fatal(err)
	}
	up := hostcfg.Upload{Path: file, Content: strings.NewReader("one"), Owner: "nobody", Group: "0", Mode: 0o710 | fs.ModeSetuid}
	if err := h.Put(t.Context(), up); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode() != 0o710|fs.ModeSetuid {
		t.Errorf("%v %v", info.Mode(), err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		up   hostcfg.Upload
		want string
	}{
		"hash":     {t.Context(), hostcfg.Upload{Path: file, Content: strings.NewReader("two"), SHA256: "00"}, "has SHA-256"},
		"owner":    {t.Context(), hostcfg.Upload{Path: file, Content: strings.NewReader("two"), Owner: "no-such-user"}, "owner"},
		"group":    {t.Context(), hostcfg.Upload{Path: file, Content: strings.NewReader("two"), Group: "no-such-group"}, "group"},
		"folder":   {t.Context(), hostcfg.Upload{Path: dir + "/none/f", Content: strings.NewReader("two")}, "no such file"},
		"canceled": {canceled, hostcfg.Upload{Path: file, Content: strings.NewReader("two")}, "canceled"},
	} {
		if err := h.Put(c.ctx, c.up); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if b, _ := os.ReadFile(file); err != nil || len(entries) != 1 || string(b) != "one" {
		t.Errorf("the original is %q, beside it %v", b, entries)
	}
}
