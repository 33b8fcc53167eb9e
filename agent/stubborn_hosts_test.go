//go:build hosts

package agent_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/nationtech/fleetctl/internal/testhost/registry"
)

// stubbornSource is a program that ignores SIGTERM and holds a port.
const stubbornSource = `package main

import (
	"net"
	"os/signal"
	"syscall"
)

func main() {
	signal.Ignore(syscall.SIGTERM)
	l, err := net.Listen("tcp", ":8090")
	if err != nil {
		panic(err)
	}
	for {
		if c, err := l.Accept(); err == nil {
			c.Close()
		}
	}
}
`

// pushStubborn pushes an image of a program that only SIGKILL ends.
func pushStubborn(t *testing.T, r *registry.Server) string {
	t.Helper()
	dir := t.TempDir()
	source, binary := filepath.Join(dir, "main.go"), filepath.Join(dir, "stubborn")
	if err := os.WriteFile(source, []byte(stubbornSource), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", binary, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GO111MODULE=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	ref := r.Addr() + "/stubborn:v1"
	app := registry.App{Binary: binary, Arch: runtime.GOARCH, Version: "v1"}
	if err := app.Push(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	return ref
}
