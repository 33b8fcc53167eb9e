//go:build hosts

package e2e

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/testhost"
	"github.com/nationtech/fleetctl/internal/testhost/registry"
	"github.com/nationtech/fleetctl/internal/testhost/terminal"
)

// tool is a command in the demo app's container, which has no shell.
func tool(flags []string, args ...string) []string {
	return append(append(append([]string{"exec"}, flags...), "pi-a", "hello", "--", "/app", "tool"), args...)
}

// TestRemoteHands works in a real container on a real host, by fleetctl, through
// a real fleet-server.
func TestRemoteHands(t *testing.T) {
	for _, suite := range []string{"bookworm", "trixie"} {
		t.Run(suite, func(t *testing.T) { testRemoteHands(t, suite) })
	}
}

func testRemoteHands(t *testing.T, suite string) {
	h := testhost.Start(t, testhost.Options{Suite: suite, Podman: true, Hostname: "pi-a"})
	c := startControlPlane(t)
	reg := registry.Start(t, testhost.HarnessIP+":0")
	image := registry.PushApp(t, reg, "hello", "v1")
	c.onboard(t, h, "pi-a", "--insecure-registry", reg.Addr())
	c.fleetctl(t, "deploy", "hello", "--image", image, "--device", "pi-a", "--port", "8081:8080", "--wait", "--timeout", "2m")

	t.Run("exec", func(t *testing.T) {
		out, errs, code := c.tryFleetctl(t, tool(nil, "exit", "7")...)
		if out != "to stdout\n" || !strings.HasSuffix(errs, "to stderr\n") || code != 7 {
			t.Errorf("exit code %d, stdout %q, stderr %q", code, out, errs)
		}
		if out, errs, code := c.tryFleetctl(t, "exec", "pi-a", "hello", "--", "/not/there"); code == 0 || out != "" || errs == "" {
			t.Errorf("a command that is not there: exit code %d, %q, %q", code, out, errs)
		}
		want := make([]byte, 8<<20)
		if _, err := rand.Read(want); err != nil {
			t.Fatal(err)
		}
		cat := c.command(t, tool([]string{"-i"}, "cat")...)
		cat.Stdin = bytes.NewReader(want)
		began := time.Now()
		got, err := cat.Output()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d of %d bytes came back: %v", len(got), len(want), err)
		}
		t.Logf("8 MiB there and back in %s", time.Since(began).Round(time.Millisecond))
	})

	t.Run("terminal", func(t *testing.T) {
		s := terminal.Start(t, c.command(t, tool([]string{"-it"}, "terminal")...))
		s.Expect("size 100x40")
		s.Resize(33, 22)
		s.Expect("size 33x22")
		s.Type("hello\r")
		s.Expect("read hello")
		s.Type("\x03")
		s.Expect("interrupted, and going on")
		s.Type("\x04")
		if code := s.ExitCode(); code != 0 {
			t.Errorf("exit code %d", code)
		}
	})

	t.Run("interrupted", func(t *testing.T) {
		cmd := c.command(t, tool(nil, "wait")...)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); line != "waiting\n" {
			t.Fatalf("%q, %v", line, err)
		}
		if got := h.Sh(t, "pgrep -fc 'app tool wait' || true"); strings.TrimSpace(got) == "0" {
			t.Fatal("the command does not run on the host")
		}
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); cmd.ProcessState.ExitCode() != hint.CodeInterrupted {
			t.Errorf("%v", err)
		}
		eventually(t, 15*time.Second, "the command ends with its caller", func() error {
			if left := strings.TrimSpace(h.Sh(t, "pgrep -fa '^/app tool wait' || true")); left != "" {
				return errors.New(left)
			}
			return nil
		})
	})

	t.Run("port-forward", func(t *testing.T) {
		cmd := c.command(t, "port-forward", "pi-a", "hello", "0:8080", "-o", "json")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var ready struct{ Local string }
		if err := json.NewDecoder(out).Decode(&ready); err != nil {
			t.Fatal(err)
		}
		_, port, _ := strings.Cut(ready.Local, ":")
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if body, err := page("127.0.0.1", atoi(t, port)); err != nil || !strings.Contains(body, "version v1") {
					t.Errorf("%q, %v", body, err)
				}
			})
		}
		wg.Wait()
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); cmd.ProcessState.ExitCode() != hint.CodeInterrupted {
			t.Errorf("%v", err)
		}
	})

	t.Run("cp", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "tree", "sub"), 0o750); err != nil {
			t.Fatal(err)
		}
		big := make([]byte, 20<<20)
		if _, err := rand.Read(big); err != nil {
			t.Fatal(err)
		}
		for name, data := range map[string][]byte{"tree/big": big, "tree/sub/small": []byte("small\n")} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o640); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		var in struct{ Target string }
		if err := json.Unmarshal([]byte(c.fleetctl(t, "cp", filepath.Join(dir, "tree"), "pi-a:hello:/etc", "-o", "json")), &in); err != nil || in.Target != "/etc/tree" {
			t.Errorf("%+v, %v", in, err)
		}
		up := time.Since(began)
		if out := c.fleetctl(t, tool([]string{"-i"}, "cat")...); out != "" { // the container goes on
			t.Error(out)
		}
		began = time.Now()
		c.fleetctl(t, "cp", "pi-a:hello:/etc/tree", filepath.Join(dir, "back"))
		t.Logf("20 MiB in within %s, out within %s", up.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
		if got, err := os.ReadFile(filepath.Join(dir, "back", "big")); err != nil || sha256.Sum256(got) != sha256.Sum256(big) {
			t.Errorf("%d of %d bytes: %v", len(got), len(big), err)
		}
		c.fleetctl(t, "cp", filepath.Join(dir, "tree", "sub", "small"), "pi-a:hello:/renamed")
		c.fleetctl(t, "cp", "pi-a:hello:/renamed", dir)
		if got, err := os.ReadFile(filepath.Join(dir, "renamed")); err != nil || string(got) != "small\n" {
			t.Errorf("%q, %v", got, err)
		}
	})

	t.Run("stop and start", func(t *testing.T) {
		c.fleetctl(t, "stop", "pi-a", "hello")
		if body, err := page(h.IP(), 8081); err == nil {
			t.Errorf("stopped, and it answers %q", body)
		}
		if _, errs, code := c.tryFleetctl(t, tool(nil, "exit", "0")...); code != hint.CodeFailed || !strings.Contains(errs, "not running") {
			t.Errorf("exec in what is stopped: exit code %d\n%s", code, errs)
		}
		h.Sh(t, "systemctl restart fleet-agent")
		eventually(t, 30*time.Second, "the agent is back", func() error {
			if _, errs, code := c.tryFleetctl(t, "ping", "pi-a"); code != 0 {
				return errors.New(errs)
			}
			return nil
		})
		if body, err := page(h.IP(), 8081); err == nil {
			t.Errorf("the agent started anew what was stopped on purpose: %q", body)
		}
		c.fleetctl(t, "start", "pi-a", "hello")
		eventually(t, 10*time.Second, "page", pageSays(h.IP(), 8081, "v1"))
	})

	t.Run("refused", func(t *testing.T) {
		for _, tt := range []struct {
			args []string
			code int
			says string
		}{
			{[]string{"exec", "pi-a", "nothing", "--", "x"}, hint.CodeFailed, "nothing is not on this device"},
			{[]string{"exec", "pi-a", "hello/none", "--", "x"}, hint.CodeFailed, "has no service none"},
			{[]string{"exec", "pi-b", "hello", "--", "x"}, hint.CodeFailed, "pi-b"},
			{[]string{"exec", "-t", "pi-a", "hello", "--", "x"}, hint.CodeUsage, "needs a terminal"},
			{[]string{"cp", "/etc/hostname", "pi-a:hello:/no/such/dir/"}, hint.CodeFailed, "no directory"},
			{[]string{"cp", "pi-a:hello:/nothing", t.TempDir()}, hint.CodeFailed, "there is no /nothing"},
		} {
			if out, errs, code := c.tryFleetctl(t, tt.args...); code != tt.code || out != "" || !strings.Contains(errs, tt.says) {
				t.Errorf("%v: exit code %d, %q\n%s", tt.args, code, out, errs)
			}
		}
	})

	t.Run("record", func(t *testing.T) {
		out := c.fleetctl(t, "audit", "--device", "pi-a", "-o", "json")
		for _, want := range []string{`exec hello [\"/app\" \"tool\" \"exit\" \"7\"]`, "upload hello /etc", "download hello /etc/tree", "forward hello port 8080", `"begun"`} {
			if !strings.Contains(out, want) {
				t.Errorf("no %s in the audit log", want)
			}
		}
	})

	t.Run("first byte", func(t *testing.T) { measureFirstByte(t, c) })

	t.Run("offline", func(t *testing.T) {
		cmd := c.command(t, tool(nil, "wait")...)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		var errs bytes.Buffer
		cmd.Stderr = &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		h.Sh(t, "systemctl stop fleet-agent")
		if err := cmd.Wait(); cmd.ProcessState.ExitCode() != hint.CodeUnreachable && cmd.ProcessState.ExitCode() != hint.CodeFailed {
			t.Errorf("the agent went: %v\n%s", err, errs.String())
		}
		if _, errs, code := c.tryFleetctl(t, tool(nil, "wait")...); code != hint.CodeUnreachable || !strings.Contains(errs, "not connected") {
			t.Errorf("offline: exit code %d\n%s", code, errs)
		}
	})
}

// measureFirstByte times how long a person waits for the first byte, fleetctl's
// own start included. What a command in a container costs besides is Podman's.
func measureFirstByte(t *testing.T, c *controlPlane) {
	const rounds = 30
	for name, args := range map[string][]string{
		"logs": {"logs", "pi-a", "hello", "--tail", "1"}, "ping": {"ping", "pi-a"}, "exec": tool(nil, "exit", "0"),
	} {
		var took []time.Duration
		for range rounds {
			cmd := c.command(t, args...)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			took = append(took, time.Since(began))
			_, _ = io.Copy(io.Discard, out) // until its end
			_ = cmd.Wait()
		}
		slices.Sort(took)
		t.Logf("first byte of %s: p50 %s, p95 %s, max %s", name, took[rounds/2].Round(time.Millisecond), took[rounds*95/100].Round(time.Millisecond), took[rounds-1].Round(time.Millisecond))
	}
}

func atoi(t *testing.T, s string) (n int) {
	t.Helper()
	if _, err := fmt.Sscan(s, &n); err != nil {
		t.Fatal(err)
	}
	return n
}
