package assets

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nationtech/fleetctl/internal/hint"
)

// DefaultImage is what machines are made from unless told otherwise.
const DefaultImage = "debian-13"

// Entry is an image that a publisher offers. No digest stands here: publishers
// replace "latest" images in place, so it comes from the publisher's list at
// download time and is kept from then on.
type Entry struct {
	Name  string // such as debian-13
	Arch  string // x86_64 or aarch64
	Title string
	URL   string
	Sums  Sums
}

// Sums is where a publisher says what an image hashes to.
type Sums struct {
	URL  string
	Kind DigestKind
	// Signature is the URL of a detached OpenPGP signature of the list.
	Signature string
	// Clear says that the list carries its signature itself (RFC 9580, 7).
	Clear bool
	// Keyrings are where the publisher's keys lie on machines that have them,
	// by package of the distribution. We ship none: a key is only worth as
	// much as the way it came.
	Keyrings []string
}

// Where publishers put things. %s is the architecture as they spell it.
const (
	debianURL = "https://cloud.debian.org/images/cloud/%s/latest/"
	ubuntuURL = "https://cloud-images.ubuntu.com/releases/noble/release/"
	fedoraURL = "https://download.fedoraproject.org/pub/fedora/linux/releases/42/Cloud/%s/images/"
)

// Catalogue lists the images that can be named.
func Catalogue() []Entry {
	var all []Entry
	for _, arch := range []struct{ kernel, deb string }{{"x86_64", "amd64"}, {"aarch64", "arm64"}} {
		all = append(all,
			debian("debian-12", "Debian 12 (bookworm)", "bookworm", arch.kernel, arch.deb),
			debian("debian-13", "Debian 13 (trixie)", "trixie", arch.kernel, arch.deb),
			Entry{
				Name: "ubuntu-24.04", Arch: arch.kernel, Title: "Ubuntu 24.04 LTS (noble)",
				URL: ubuntuURL + "ubuntu-24.04-server-cloudimg-" + arch.deb + ".img",
				Sums: Sums{
					URL: ubuntuURL + "SHA256SUMS", Kind: KindSHA256, Signature: ubuntuURL + "SHA256SUMS.gpg",
					Keyrings: []string{"/usr/share/keyrings/ubuntu-cloudimage-keyring.gpg"},
				},
			},
			fedora(arch.kernel),
		)
	}
	return all
}

// debian's lists for cloud images carry no signature; HTTPS vouches for them.
func debian(name, title, suite, arch, deb string) Entry {
	base := fmt.Sprintf(debianURL, suite)
	return Entry{
		Name: name, Arch: arch, Title: title,
		URL:  base + name + "-genericcloud-" + deb + ".qcow2",
		Sums: Sums{URL: base + "SHA512SUMS", Kind: KindSHA512},
	}
}

func fedora(arch string) Entry {
	base := fmt.Sprintf(fedoraURL, arch)
	return Entry{
		Name: "fedora-42", Arch: arch, Title: "Fedora Cloud 42",
		URL: base + "Fedora-Cloud-Base-Generic-42-1.1." + arch + ".qcow2",
		Sums: Sums{
			URL: base + "Fedora-Cloud-42-1.1-" + arch + "-CHECKSUM", Kind: KindSHA256, Clear: true,
			Keyrings: []string{"/etc/pki/rpm-gpg/RPM-GPG-KEY-fedora-42-primary", "/usr/share/distribution-gpg-keys/fedora/RPM-GPG-KEY-fedora-42-primary"},
		},
	}
}

// lookup finds an entry; the error lists the names that there are.
func lookup(entries []Entry, name, arch string) (Entry, error) {
	var names []string
	for _, e := range entries {
		if e.Name == name && e.Arch == arch {
			return e, nil
		}
		if !slices.Contains(names, e.Name) {
			names = append(names, e.Name)
		}
	}
	return Entry{}, hint.WithCode(hint.New(fmt.Sprintf("there is no image %s for %s", name, arch),
		"use "+strings.Join(names, ", ")+", a path, a URL with --sha256, or import one: fleetctl image import NAME FILE"), hint.CodeUsage)
}
