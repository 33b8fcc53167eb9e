// Package ociimage makes OCI images of this project's programs without a
// container engine: one static binary, a list of what it was built from, the
// authorities of public certificates, and what a process needs to run without root. The same binaries give the same
// digest on every machine. It builds no binary.
package ociimage

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// user is the uid and gid of an image's process where the cluster assigns none:
// the number that distroless images use. OpenShift runs it as another.
const user = 65532

// Program is a static binary and the platform that it is for.
type Program struct {
	Arch string // GOARCH
	Path string
}

// Image says what to make.
type Image struct {
	Name    string // of the program in /usr/local/bin, and the image's title
	Version string
	// Programs has one binary a platform.
	Programs []Program
}

// Index returns the image of each platform below one index.
func (i Image) Index() (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, program := range i.Programs {
		img, err := i.image(program)
		if err != nil {
			return nil, fmt.Errorf("image %s for %s: %w", i.Name, program.Arch, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        img,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: program.Arch}},
		})
	}
	return index, nil
}

func (i Image) image(program Program) (v1.Image, error) {
	binary, err := os.ReadFile(program.Path)
	if err != nil {
		return nil, err
	}
	if err := checkBinary(binary, program.Arch); err != nil {
		return nil, fmt.Errorf("%s: %w", program.Path, err)
	}
	bill, err := bill(i.Name, binary)
	if err != nil {
		return nil, err
	}
	authorities, err := roots()
	if err != nil {
		return nil, err
	}
	path := "usr/local/bin/" + i.Name
	layers := [][]file{
		{
			{name: "etc/", mode: 0o755},
			{name: "etc/passwd", mode: 0o644, data: fmt.Appendf(nil, "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:%d:%[1]d:nonroot:/tmp:/sbin/nologin\n", user)},
			{name: "etc/group", mode: 0o644, data: fmt.Appendf(nil, "root:x:0:\nnonroot:x:%d:\n", user)},
			{name: "etc/ssl/", mode: 0o755},
			{name: "etc/ssl/certs/", mode: 0o755},
			{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, data: authorities},
			{name: "tmp/", mode: 0o1777},
		},
		{
			{name: "usr/", mode: 0o755},
			{name: "usr/share/", mode: 0o755},
			{name: "usr/share/sbom/", mode: 0o755},
			{name: "usr/share/sbom/" + i.Name + ".cdx.json", mode: 0o644, data: bill},
		},
		{
			{name: "usr/", mode: 0o755},
			{name: "usr/local/", mode: 0o755},
			{name: "usr/local/bin/", mode: 0o755},
			{name: path, mode: 0o755, data: binary},
		},
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, files := range layers {
		layer, err := layer(files)
		if err != nil {
			return nil, err
		}
		if img, err = mutate.AppendLayers(img, layer); err != nil {
			return nil, err
		}
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", program.Arch
	config.Config = v1.Config{
		User:       fmt.Sprint(user),
		Entrypoint: []string{"/" + path},
		WorkingDir: "/",
		Env:        []string{"PATH=/usr/local/bin", "HOME=/tmp"},
		Labels: map[string]string{
			"org.opencontainers.image.title":    i.Name,
			"org.opencontainers.image.version":  i.Version,
			"org.opencontainers.image.licenses": "Apache-2.0",
			"org.opencontainers.image.source":   "https://github.com/nationtech/fleetctl",
		},
	}
	return mutate.ConfigFile(img, config)
}

// file is one entry of a layer; a name that ends in a slash is a directory.
// Files belong to root: the process may change none of them.
type file struct {
	name string
	mode int64
	data []byte
}

// layer packs files with no trace of when and by whom.
func layer(files []file) (v1.Layer, error) {
	var packed bytes.Buffer
	w := tar.NewWriter(&packed)
	for _, f := range files {
		header := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data)), Typeflag: tar.TypeReg, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
		if f.name[len(f.name)-1] == '/' {
			header.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(packed.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer))
}
