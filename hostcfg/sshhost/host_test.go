package sshhost_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/hostcfg"
	"github.com/nationtech/fleetctl/hostcfg/sshhost"
	"github.com/nationtech/fleetctl/hostcfg/sshhost/sshtest"
	"github.com/nationtech/fleetctl/internal/hint"
	"golang.org/x/crypto/ssh"
)

// rig is a server and the options with which it lets us in.
type rig struct {
	*sshtest.Server
	options sshhost.Options
	target  sshhost.Target
	dir     string
	asker   *asker
}

func newRig(t *testing.T, c sshtest.Config) *rig {
	t.Helper()
	dir := t.TempDir()
	keyFile, pub := newKeyFile(t, dir, "id", "")
	c.AuthorizedKeys = append(c.AuthorizedKeys, pub)
	r := &rig{Server: sshtest.NewServer(t, c), dir: dir, asker: &asker{trust: true}}
	r.target = target(t, r.Addr)
	r.options = sshhost.Options{
		Home: dir, LocalUser: "tester", IdentityFiles: []string{keyFile},
		KnownHosts: []string{filepath.Join(dir, "known_hosts")}, Asker: r.asker,
	}
	return r
}

func target(t *testing.T, addr string) sshhost.Target {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, _ := strconv.Atoi(port)
	return sshhost.Target{Host: host, Port: n}
}

func (r *rig) dial(t *testing.T) *sshhost.Host {
	t.Helper()
	h, err := sshhost.Dial(t.Context(), r.target, r.options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// asker gives prepared answers and counts the questions.
type asker struct {
	mu      sync.Mutex
	trust   bool
	answers map[sshhost.QuestionKind][]string
	asked   []sshhost.Question
	keys    []sshhost.UnknownKey
}

var errNoAnswer = errors.New("no answer prepared")

func (a *asker) Answer(_ context.Context, q sshhost.Question) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, q)
	left := a.answers[q.Kind]
	if len(left) == 0 {
		return "", fmt.Errorf("%w: %+v", errNoAnswer, q)
	}
	a.answers[q.Kind] = left[1:]
	return left[0], nil
}

func (a *asker) Trust(_ context.Context, k sshhost.UnknownKey) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keys = append(a.keys, k)
	return a.trust, nil
}

// newKeyFile writes a private key, encrypted when there is a passphrase.
func newKeyFile(t *testing.T, dir, name, passphrase string) (string, ssh.PublicKey) {
	t.Helper()
	key := newPrivateKey(t)
	var block *pem.Block
	var err error
	if passphrase == "" {
		block, err = ssh.MarshalPrivateKey(key, "")
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return path, signer.PublicKey()
}

func run(t *testing.T, h hostcfg.Host, script string) hostcfg.Result {
	t.Helper()
	r, err := h.Run(t.Context(), hostcfg.Command{Script: script, Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRunKeepsStreamsStatusAndBytesApart(t *testing.T) {
	h := newRig(t, sshtest.Config{Noise: "Welcome!\n\x1b[1mno newline at the end"}).dial(t)
	for _, c := range []struct {
		name, script, stdin string
		out, err            string
		code                int
	}{
		{name: "both streams", script: "echo out; echo err >&2; exit 3", out: "out\n", err: "err\n", code: 3},
		{name: "nothing", script: ""},
		{name: "no newline", script: "printf x; printf y >&2", out: "x", err: "y"},
		{name: "NUL and high bytes", script: `printf 'a\000\377\nb'`, out: "a\x00\xff\nb"},
		{name: "empty lines are kept", script: "echo; echo; printf '\n\n'", out: "\n\n\n\n"},
		{name: "quotes", script: `echo "it's" '$HOME' \\ !`, out: `it's $HOME \ !` + "\n"},
		{name: "here-document", script: "cat <<E\na\nb\nE", out: "a\nb\n"},
		{name: "no input", script: "cat; echo end", out: "end\n"},
		{name: "input", script: "cat", stdin: "in\x00put\n", out: "in\x00put\n"},
		{name: "input not read", script: "echo done", stdin: strings.Repeat("x", 1<<20), out: "done\n"},
		{name: "input partly read", script: "head -c 3; exit 4", stdin: strings.Repeat("x", 1<<20), out: "xxx", code: 4},
		{name: "syntax error", script: "if then", err: "syntax error", code: 2},
		{name: "state does not stay", script: "cd /tmp; x=1; set -eu; exec 2>&1; umask 0", out: ""},
		{name: "it did not", script: `pwd; echo "${x-unset}"; umask`, out: "/\nunset\n0022\n"},
		{name: "a child left behind", script: "sleep 30 >/dev/null 2>&1 & echo $! >/dev/null", out: ""},
		{name: "killed by a signal", script: "sh -c 'kill -9 $$'", err: "Killed", code: 137},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := hostcfg.Command{Script: c.script, Timeout: 20 * time.Second}
			if c.stdin != "" {
				cmd.Stdin = strings.NewReader(c.stdin)
			}
			r, err := h.Run(t.Context(), cmd)
			if err != nil {
				t.Fatal(err)
			}
			if string(r.Stdout) != c.out || r.ExitCode != c.code {
				t.Errorf("got status %d and %q, want %d and %q (stderr %q)", r.ExitCode, r.Stdout, c.code, c.out, r.Stderr)
			}
			if !strings.Contains(strings.ToLower(string(r.Stderr)), strings.ToLower(c.err)) || (c.err == "" && len(r.Stderr) > 0) {
				t.Errorf("stderr %q, want %q", r.Stderr, c.err)
			}
		})
	}
}

func TestPutAndGet(t *testing.T) {
	h := newRig(t, sshtest.Config{}).dial(t)
	dir := t.TempDir()
	big := make([]byte, 3<<20+17)
	_, _ = rand.Read(big)
	for name, content := range map[string][]byte{
		"empty": {}, "one": {0}, "text": []byte("a\nb\n"), "big": big,
		"chunk": big[:128<<10], "it's a \"name\"": []byte("x"), "-dash": []byte("y"),
	} {
		path := filepath.Join(dir, name)
		err := h.Put(t.Context(), hostcfg.Upload{Path: path, Content: bytes.NewReader(content), Owner: "1234", Group: "daemon", Mode: 0o640})
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o640 {
			t.Errorf("%s: mode %v", name, info.Mode())
		}
		got, err := h.Get(t.Context(), path, int64(len(content)))
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: got %d bytes back of %d: %v", name, len(got), len(content), err)
		}
		if _, err := h.Get(t.Context(), path, int64(len(content))-1); err == nil || !strings.Contains(err.Error(), "larger than") {
			t.Errorf("%s: over the limit: %v", name, err)
		}
	}
	noStrayFile(t, dir)
	if _, err := h.Get(t.Context(), filepath.Join(dir, "none"), 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := h.Get(t.Context(), dir, 10); err == nil {
		t.Error("read a directory")
	}
}

func TestRefusedPutLeavesTheOriginal(t *testing.T) {
	h := newRig(t, sshtest.Config{}).dial(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	reading := errors.New("disk on fire")
	for name, u := range map[string]hostcfg.Upload{
		"wrong sum":                     {Path: path, Content: strings.NewReader("after"), SHA256: strings.Repeat("0", 64)},
		"no such owner":                 {Path: path, Content: strings.NewReader("after"), Owner: "no-such-user"},
		"directory":                     {Path: dir, Content: strings.NewReader("after")},
		"no directory":                  {Path: dir + "/none/f", Content: strings.NewReader("after")},
		"relative":                      {Path: "f", Content: strings.NewReader("after")},
		"content that ends in an error": {Path: path, Content: io.MultiReader(strings.NewReader("af"), errReader{reading})},
	} {
		err := h.Put(t.Context(), u)
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		if got, _ := os.ReadFile(path); string(got) != "before" {
			t.Errorf("%s: the file is now %q", name, got)
		}
		noStrayFile(t, dir)
	}
	if r := run(t, h, "echo alive"); string(r.Stdout) != "alive\n" {
		t.Errorf("after all that: %q", r.Stdout)
	}
}

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }

// noStrayFile checks that no temporary file is in dir, now or in a moment: the
// far side cleans up by itself.
func noStrayFile(t *testing.T, dir string) {
	t.Helper()
	within(t, 20*time.Second, "no temporary file", func() bool {
		left, err := filepath.Glob(filepath.Join(dir, ".*"))
		return err == nil && len(left) == 0
	})
}

// within waits for something that the host does without telling us.
func within(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

func TestDeadlineKillsTheScript(t *testing.T) {
	r := newRig(t, sshtest.Config{})
	h := r.dial(t)
	pidFile := filepath.Join(r.dir, "pid")
	for name, stdin := range map[string]io.Reader{"without input": nil, "with input": strings.NewReader("x")} {
		start := time.Now()
		_, err := h.Run(t.Context(), hostcfg.Command{
			Script: "echo working; sleep 300 & echo $! >" + pidFile + "; wait", Stdin: stdin, Timeout: 3 * time.Second, // to come as far as that
		})
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "3s") || !strings.Contains(err.Error(), "working") {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("%s: took %s", name, took)
		}
		pid, err := os.ReadFile(pidFile)
		if err != nil {
			t.Fatal(err)
		}
		within(t, 20*time.Second, "the script is gone", func() bool {
			_, err := os.Stat("/proc/" + strings.TrimSpace(string(pid)))
			return errors.Is(err, fs.ErrNotExist)
		})
		if r := run(t, h, "echo again"); string(r.Stdout) != "again\n" {
			t.Errorf("%s: the next script printed %q", name, r.Stdout)
		}
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	_, err = sshhost.Dial(t.Context(), target(t, addr), sshhost.Options{Home: t.TempDir(), LocalUser: "x"})
	if hint.Code(err) != hint.CodeUnreachable || hint.Of(err) == "" {
		t.Errorf("got %v, code %d", err, hint.Code(err))
	}
}
