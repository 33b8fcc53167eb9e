package registry

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// What was pushed is there again after a restart, on the same directory.
func TestContentOutlivesARestart(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "app")
	if err := os.WriteFile(binary, []byte("no program, but content"), 0o755); err != nil {
		t.Fatal(err)
	}
	first := serve(t, dir)
	if err := (App{Binary: binary, Arch: "arm64", Version: "v7"}).Push(t.Context(), first.Addr()+"/team/hello:v7"); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}

	second := serve(t, dir)
	defer second.Close()
	ref, err := name.ParseReference(second.Addr()+"/team/hello:v7", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	image, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Architecture != "arm64" || config.Config.Env[0] != "APP_VERSION=v7" {
		t.Errorf("config: %+v", config)
	}
	layers, err := image.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	_ = content.Close()
}

func serve(t *testing.T, dir string) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Serve(l, dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
