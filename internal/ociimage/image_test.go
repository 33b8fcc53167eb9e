package ociimage

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/nationtech/fleetctl/internal/testhost/registry"
)

// program builds a small Go program, as the Makefile builds ours.
func program(t *testing.T, arch string, env ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "demoapp-"+arch)
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, "../testhost/demoapp")
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

func demo(t *testing.T) Image {
	return Image{Name: "demoapp", Version: "v1", Programs: []Program{{"amd64", program(t, "amd64")}, {"arm64", program(t, "arm64")}}}
}

// files are those of an image as a container would see them.
func files(t *testing.T, image v1.Image) map[string]*tar.Header {
	t.Helper()
	content := mutate.Extract(image)
	defer content.Close()
	all := map[string]*tar.Header{}
	for r := tar.NewReader(content); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		switch header.Name {
		case "usr/share/sbom/demoapp.cdx.json":
			checkBill(t, r)
		case "etc/ssl/certs/ca-certificates.crt": // where Go looks first
			checkRoots(t, r)
		}
		all[header.Name] = header
	}
}

func checkBill(t *testing.T, r io.Reader) {
	t.Helper()
	var bill struct {
		BOMFormat  string
		Components []component
	}
	if err := json.NewDecoder(r).Decode(&bill); err != nil {
		t.Fatal(err)
	}
	if bill.BOMFormat != "CycloneDX" || len(bill.Components) == 0 || bill.Components[0].Name != "std" {
		t.Errorf("bill of materials: %+v", bill)
	}
}

// checkRoots wants the authority of the issuer that most installations use.
func checkRoots(t *testing.T, r io.Reader) {
	t.Helper()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		root, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, root.Subject.CommonName)
	}
	if !slices.Contains(names, "ISRG Root X1") { // Let's Encrypt
		t.Errorf("the image trusts %q", names)
	}
}

// Two builds of the same source, in two directories, give one digest, and what a
// registry serves afterwards is what a restricted pod can run.
func TestImage(t *testing.T) {
	first, err := demo(t).Index()
	if err != nil {
		t.Fatal(err)
	}
	second, err := demo(t).Index()
	if err != nil {
		t.Fatal(err)
	}
	want, _ := first.Digest()
	if got, _ := second.Digest(); got != want {
		t.Errorf("two builds: %s and %s", want, got)
	}

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, err := registry.Serve(listener, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	reference := server.Addr() + "/fleet/demoapp:v1"
	if err := Push(t.Context(), first, reference); err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(reference)
	if err != nil {
		t.Fatal(err)
	}
	for _, arch := range []string{"amd64", "arm64"} {
		image, err := remote.Image(ref, remote.WithPlatform(v1.Platform{OS: "linux", Architecture: arch}))
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Image(image); err != nil {
			t.Errorf("%s: the image does not hold together: %v", arch, err)
		}
		config, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if config.Architecture != arch || config.Config.User != "65532" || strings.Join(config.Config.Entrypoint, " ") != "/usr/local/bin/demoapp" || !config.Created.IsZero() {
			t.Errorf("%s: architecture %s, config %+v, created %s", arch, config.Architecture, config.Config, config.Created)
		}
		content := files(t, image)
		for name, header := range content {
			if header.Uid != 0 || header.Gid != 0 || header.Mode&0o022 != 0 && name != "tmp/" && name != "tmp" {
				t.Errorf("%s: %s belongs to %d:%d, mode %o", arch, name, header.Uid, header.Gid, header.Mode)
			}
		}
		if content["etc/ssl/certs/ca-certificates.crt"] == nil {
			t.Errorf("%s: it trusts nobody", arch)
		}
		if binary := content["usr/local/bin/demoapp"]; binary == nil || binary.Mode != 0o755 {
			t.Errorf("%s: program is %+v", arch, binary)
		}
	}
}

func TestSave(t *testing.T) {
	index, err := demo(t).Index()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var archives [2][]byte
	for i := range archives {
		path := filepath.Join(dir, "demoapp.tar")
		if err := Save(index, "demoapp:v1", path); err != nil {
			t.Fatal(err)
		}
		if archives[i], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("two archives of one image differ")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
	digest, _ := index.Digest()
	if !bytes.Contains(archives[0], []byte(digest.String())) || !bytes.Contains(archives[0], []byte("oci-layout")) {
		t.Error("the archive is no OCI layout with the index in it")
	}
}

func TestRefused(t *testing.T) {
	amd64 := program(t, "amd64")
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, arch, path, want string }{
		{"another machine's program", "arm64", amd64, "not for arm64"},
		{"a script", "amd64", script, "not a Linux program"},
		{"a dynamic program", "amd64", "/bin/sh", "not static"},
		{"an architecture that we do not ship", "riscv64", amd64, "have amd64 and arm64"},
		{"no file", "amd64", filepath.Join(t.TempDir(), "absent"), "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Image{Name: "x", Version: "v1", Programs: []Program{{c.arch, c.path}}}.Index()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want …%s…", err, c.want)
			}
		})
	}
}
