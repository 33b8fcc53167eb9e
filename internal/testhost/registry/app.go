package registry

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// AppPackage is the web app that the images hold; it listens on 8080.
const AppPackage = "github.com/nationtech/fleetctl/internal/testhost/demoapp"

// PushApp builds the web app for this machine's architecture and pushes it as
// name:version. It returns the reference that a host pulls.
func PushApp(t testing.TB, s *Server, name, version string) string {
	t.Helper()
	return PushAppFor(t, s, name, version, runtime.GOARCH)
}

// PushAppFor is PushApp for a GOARCH.
func PushAppFor(t testing.TB, s *Server, name, version, arch string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "demoapp")
	if err := BuildApp(t.Context(), binary, arch); err != nil {
		t.Fatal(err)
	}
	app := App{Binary: binary, Arch: arch, Version: version}
	if s.login != nil {
		app.Auth = &authn.Basic{Username: s.login.User, Password: s.login.Password}
	}
	ref := s.Addr() + "/" + name + ":" + version
	if err := app.Push(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	return ref
}

// BuildApp compiles the web app, static, for a GOARCH.
func BuildApp(ctx context.Context, output, arch string) error {
	_, here, _, _ := runtime.Caller(0)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", output, AppPackage)
	cmd.Dir = filepath.Dir(here)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the demo app: %w: %s", err, out)
	}
	return nil
}

// App is an image with one static binary and nothing else.
type App struct {
	Binary  string              // path
	Arch    string              // GOARCH of the binary
	Version string              // what the app says it is
	Auth    authn.Authenticator // nil for a registry that takes it from anybody
}

// Push makes the image and pushes it to ref, over plain HTTP.
func (a App) Push(ctx context.Context, ref string) error {
	image, err := a.image()
	if err != nil {
		return fmt.Errorf("make the image %s: %w", ref, err)
	}
	target, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		return err
	}
	options := []remote.Option{remote.WithContext(ctx)}
	if a.Auth != nil {
		options = append(options, remote.WithAuth(a.Auth))
	}
	if err := remote.Write(target, image, options...); err != nil {
		return fmt.Errorf("push the image %s: %w", ref, err)
	}
	return nil
}

func (a App) image() (v1.Image, error) {
	binary, err := os.ReadFile(a.Binary)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: "app", Mode: 0o755, Size: int64(len(binary)), Typeflag: tar.TypeReg}); err != nil {
		return nil, err
	}
	if _, err := w.Write(binary); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", a.Arch
	config.Config.Entrypoint = []string{"/app"}
	config.Config.Env = []string{"APP_VERSION=" + a.Version}
	config.Config.ExposedPorts = map[string]struct{}{"8080/tcp": {}}
	return mutate.ConfigFile(image, config)
}
