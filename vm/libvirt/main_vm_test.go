//go:build vm && cgo && libvirt_dlopen

package libvirt_test

import (
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/nationtech/fleetctl/assets"
	"github.com/nationtech/fleetctl/firmware"
	"github.com/nationtech/fleetctl/internal/testhost/sandbox"
	"github.com/nationtech/fleetctl/vm"
	"github.com/nationtech/fleetctl/vm/libvirt"
)

// These tests make real machines on a libvirt of their own: TestMain runs the
// test program again inside scripts/vm-sandbox.

func TestMain(m *testing.M) {
	if os.Getenv(childMark) != "" {
		os.Exit(childWork())
	}
	os.Exit(sandbox.Main(m))
}

// open connects to the sandbox's libvirt, with locks of the test's own.
func open(t testing.TB) *libvirt.Hypervisor {
	t.Helper()
	h, err := libvirt.Open(t.Context(), libvirt.Config{
		CacheDir: t.TempDir(),
		Firmware: firmware.NewFinder(""),
		Log:      slog.New(slog.NewTextHandler(testWriter{t}, nil)),
		Report:   func(line string) { t.Log(line) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// builtImage is an image made from packages.
func builtImage(t testing.TB, arch vm.Arch) vm.Image {
	t.Helper()
	path := sandbox.Image(t, string(arch))
	image, err := (&assets.Store{}).Open(t.Context(), assets.Ref{Name: path, Arch: string(arch)})
	if err != nil {
		t.Fatal(err)
	}
	return vm.Image{Name: image.Name, Path: image.Path, SHA256: image.SHA256, Format: image.Format, Size: image.Size}
}
