package sshhost_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/hostcfg"
	"github.com/nationtech/fleetctl/hostcfg/sshhost/sshtest"
)

// TestPutCutAnywhere cuts the connection at many points of writing a file:
// the file is the old one or the new one, whole, and nothing else is left.
func TestPutCutAnywhere(t *testing.T) {
	r := newRig(t, sshtest.Config{})
	before, after := bytes.Repeat([]byte("before\n"), 1000), bytes.Repeat([]byte("after\n"), 60_000)
	direct := r.target
	for _, at := range []int64{1, 100, 500, 1500, 3000, 50_000, 140_000, 300_000, 361_000, 362_500, 364_000} {
		dir := t.TempDir()
		path := filepath.Join(dir, "f")
		if err := os.WriteFile(path, before, 0o600); err != nil {
			t.Fatal(err)
		}
		p := sshtest.NewProxy(t, r.Addr, 0)
		r.target = target(t, p.Addr)
		h := r.dial(t)
		run(t, h, "true")
		p.CutAfter(at)
		upload := hostcfg.Upload{Path: path, Content: bytes.NewReader(after), Mode: 0o600}
		perr := h.Put(t.Context(), upload)
		noStrayFile(t, dir)
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case bytes.Equal(got, before):
			if perr == nil {
				t.Errorf("cut after %d bytes: no error, and the file is the old one", at)
			}
		case !bytes.Equal(got, after):
			t.Errorf("cut after %d bytes: the file has %d bytes, neither old nor new (%v)", at, len(got), perr)
		}
		// Run again: it converges.
		r.target = direct
		upload.Content = bytes.NewReader(after)
		if err := r.dial(t).Put(t.Context(), upload); err != nil {
			t.Errorf("cut after %d bytes, then again: %v", at, err)
		}
		if got, _ := os.ReadFile(path); !bytes.Equal(got, after) {
			t.Errorf("cut after %d bytes, then again: the file has %d bytes", at, len(got))
		}
	}
}

// TestStaleTemporaryFileIsReplaced is for what a kill -9 of the far side
// leaves behind.
func TestStaleTemporaryFileIsReplaced(t *testing.T) {
	h := newRig(t, sshtest.Config{}).dial(t)
	dir := t.TempDir()
	path, elsewhere := filepath.Join(dir, "f"), filepath.Join(dir, "elsewhere")
	if err := os.WriteFile(elsewhere, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, leave := range map[string]func(string) error{
		"file": func(p string) error { return os.WriteFile(p, []byte("half"), 0o644) },
		"link": func(p string) error { return os.Symlink(elsewhere, p) },
	} {
		if err := leave(hostcfg.TempPath(path)); err != nil {
			t.Fatal(err)
		}
		if err := h.Put(t.Context(), hostcfg.Upload{Path: path, Content: bytes.NewReader([]byte("new")), Mode: 0o600}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		noStrayFile(t, dir)
		if got, _ := os.ReadFile(elsewhere); string(got) != "untouched" {
			t.Errorf("%s: the temporary file was followed: %q", name, got)
		}
	}
}

func TestCancellationKillsTheScript(t *testing.T) {
	r := newRig(t, sshtest.Config{})
	h := r.dial(t)
	started := filepath.Join(r.dir, "started")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for {
			if _, err := os.Stat(started); err == nil {
				cancel()
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	start := time.Now()
	_, err := h.Run(ctx, hostcfg.Command{Script: "trap 'rm -f " + started + "; exit 1' TERM; touch " + started + "; while :; do sleep 0.1; done"})
	if !errors.Is(err, context.Canceled) || time.Since(start) > 20*time.Second {
		t.Errorf("after %s: %v", time.Since(start), err)
	}
	if _, err := os.Stat(started); err == nil {
		t.Error("the script was not given the time to clean up")
	}
}

// TestScriptThatIgnoresTheSignal is killed after the grace that others get.
func TestScriptThatIgnoresTheSignal(t *testing.T) {
	r := newRig(t, sshtest.Config{})
	h := r.dial(t)
	alive := filepath.Join(r.dir, "alive")
	_, err := h.Run(t.Context(), hostcfg.Command{
		Script: "trap '' TERM; while :; do touch " + alive + "; sleep 0.05; done", Timeout: 200 * time.Millisecond,
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	within(t, 20*time.Second, "it is gone", func() bool {
		_ = os.Remove(alive)
		time.Sleep(300 * time.Millisecond)
		_, err := os.Stat(alive)
		return err != nil
	})
}
