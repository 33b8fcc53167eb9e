package firmware

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nationtech/fleetctl/internal/hint"
)

// host lays out directories of descriptors and firmware files.
type host struct {
	t    *testing.T
	root string
}

func newHost(t *testing.T) host { return host{t, t.TempDir()} }

func (h host) file(name, content string) string {
	h.t.Helper()
	path := filepath.Join(h.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// descriptor writes one for x86_64 and q35 whose files are named for it.
func (h host) descriptor(dir, name, features string) string {
	code, vars := h.file(name+".code", "c"), h.file(name+".vars", "v")
	h.file(dir+"/"+name, fmt.Sprintf(`{"description": %q, "interface-types": ["uefi"],
		"mapping": {"device": "flash", "executable": {"filename": %q, "format": "raw"}, "nvram-template": {"filename": %q, "format": "raw"}},
		"targets": [{"architecture": "x86_64", "machines": ["pc-q35-*"]}], "features": [%s]}`, name, code, vars, features))
	return code
}

func (h host) finder() Finder {
	return Finder{Dirs: []string{filepath.Join(h.root, "user"), filepath.Join(h.root, "etc"), filepath.Join(h.root, "usr")}}
}

var q35 = Query{Arch: "x86_64", Machine: "pc-q35-7.2"}

func (h host) want(q Query, code string) {
	h.t.Helper()
	got, err := h.finder().Find(q)
	if err != nil || got.Code != code {
		h.t.Errorf("found %+v, %v; want %s", got, err, code)
	}
}

func TestSecureBootOnlyWhenAsked(t *testing.T) {
	h := newHost(t)
	secure := h.descriptor("usr", "40-secure.json", `"secure-boot", "requires-smm"`)
	ordinary := h.descriptor("usr", "60-plain.json", `"acpi-s3"`)
	h.want(q35, ordinary)
	h.want(Query{Arch: "x86_64", Machine: "pc-q35-7.2", SecureBoot: true}, secure)
}

func TestPrecedence(t *testing.T) {
	h := newHost(t)
	h.descriptor("usr", "50-a.json", "")
	last := h.descriptor("usr", "70-c.json", "")
	first := h.descriptor("etc", "40-b.json", "")
	h.want(q35, first)
	h.file("user/40-b.json", "") // hides it
	h.file("etc/50-a.json", "")
	h.want(q35, last)
}

func TestWhatDoesNotSuitIsPassedOver(t *testing.T) {
	h := newHost(t)
	h.file("usr/10-broken.json", "{")
	h.file("usr/20-bios.json", `{"interface-types": ["bios"]}`)
	good := h.descriptor("usr", "30-good.json", "")
	h.want(q35, good)
	if _, err := h.finder().Find(Query{Arch: "aarch64", Machine: "virt-7.2"}); err == nil || !strings.Contains(hint.Of(err), "qemu-efi-aarch64") {
		t.Errorf("firmware of another architecture: %v, hint %q", err, hint.Of(err))
	}
	if err := os.Remove(good); err != nil {
		t.Fatal(err)
	}
	if _, err := h.finder().Find(q35); err == nil || !strings.Contains(err.Error(), "10-broken.json") {
		t.Errorf("firmware whose files are gone: %v", err)
	}
}

func TestKnownPathsComeLast(t *testing.T) {
	h := newHost(t)
	known := Known{"x86_64", h.file("OVMF_CODE.fd", "c"), h.file("OVMF_VARS.fd", "v")}
	f := h.finder()
	f.Paths = []Known{known}
	if got, err := f.Find(q35); err != nil || got.Code != known.Code || got.Vars != known.Vars {
		t.Errorf("found %+v, %v", got, err)
	}
}
