package systemtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// run runs fleet-server to its end.
func run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func TestBadInputIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "untouched")
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"unknown command": {[]string{"everything"}, []string{"everything"}},
		"unknown flag":    {[]string{"all", "--port", "1"}, []string{"--port", "hint: see: fleet-server all --help"}},
		"argument":        {[]string{"all", "now"}, []string{"now"}},
		"output":          {[]string{"all", "-o", "xml"}, []string{"xml", "hint: use --output"}},
		"all at once": {
			[]string{"all", "--data-dir", dir, "--listen-address", "here", "--advertise", "https://fleet", "--kube-port", "70000", "--start-timeout", "0s"},
			[]string{`--listen-address "here"`, `--advertise "https://fleet"`, "--kube-port 70000", "--start-timeout 0s"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := run(t, c.args...)
			if code != 2 || stdout != "" {
				t.Errorf("exit code %d, stdout %q", code, stdout)
			}
			for _, want := range c.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("no %q in %q", want, stderr)
				}
			}
		})
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a refused start made its data directory")
	}
}

func TestOpenDataDirectoryIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := run(t, "all", "--data-dir", dir)
	if code != 1 || !strings.Contains(stderr, "accessible to others") || !strings.Contains(stderr, "hint: chmod 700 "+dir) {
		t.Errorf("exit code %d, stderr %q", code, stderr)
	}
}

func TestVersion(t *testing.T) {
	code, stdout, stderr := run(t, "version", "-o", "json")
	var v struct {
		SchemaVersion       int
		Version, Kubernetes string
	}
	if err := json.Unmarshal([]byte(stdout), &v); err != nil || code != 0 {
		t.Fatalf("exit code %d, %v: %q %q", code, err, stdout, stderr)
	}
	if v.SchemaVersion != 1 || v.Version == "" || !strings.HasPrefix(v.Kubernetes, "v1.") {
		t.Errorf("version is %+v", v)
	}
}
