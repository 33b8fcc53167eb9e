package assets

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	//lint:ignore SA1019 what signature.go verifies with
	"golang.org/x/crypto/openpgp" //nolint:staticcheck // see above
	//lint:ignore SA1019 as above
	"golang.org/x/crypto/openpgp/armor" //nolint:staticcheck // as above
	//lint:ignore SA1019 as above
	"golang.org/x/crypto/openpgp/clearsign" //nolint:staticcheck // as above
)

// signer is a publisher's key, made for the test.
type signer struct {
	t   *testing.T
	key *openpgp.Entity
}

func newSigner(t *testing.T) signer {
	t.Helper()
	key, err := openpgp.NewEntity("Publisher", "", "images@example.org", nil)
	if err != nil {
		t.Fatal(err)
	}
	return signer{t, key}
}

// keyring writes the public key as distributions ship keys.
func (s signer) keyring(armored bool) string {
	s.t.Helper()
	var out bytes.Buffer
	write := func(w io.Writer) {
		if err := s.key.Serialize(w); err != nil {
			s.t.Fatal(err)
		}
	}
	if armored {
		w, err := armor.Encode(&out, openpgp.PublicKeyType, nil)
		if err != nil {
			s.t.Fatal(err)
		}
		write(w)
		if err := w.Close(); err != nil {
			s.t.Fatal(err)
		}
	} else {
		write(&out)
	}
	path := filepath.Join(s.t.TempDir(), "keyring.gpg")
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func (s signer) detached(list []byte, armored bool) []byte {
	s.t.Helper()
	sign := openpgp.DetachSign
	if armored {
		sign = openpgp.ArmoredDetachSign
	}
	var out bytes.Buffer
	if err := sign(&out, s.key, bytes.NewReader(list), nil); err != nil {
		s.t.Fatal(err)
	}
	return out.Bytes()
}

func (s signer) clear(list []byte) []byte {
	s.t.Helper()
	var out bytes.Buffer
	w, err := clearsign.Encode(&out, s.key.PrivateKey, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := w.Write(list); err != nil {
		s.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		s.t.Fatal(err)
	}
	return out.Bytes()
}

// signedPublisher serves an image with a list and its signature as files.
func signedPublisher(t *testing.T, files map[string][]byte, sums Sums) *Store {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, ok := files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(data)
	}))
	t.Cleanup(server.Close)
	sums.URL = server.URL + "/SUMS"
	if !sums.Clear {
		sums.Signature = server.URL + "/SUMS.gpg"
	}
	return &Store{
		Dir: filepath.Join(t.TempDir(), "images"), Client: server.Client(), Log: slog.New(slog.DiscardHandler),
		Entries: []Entry{{Name: "disk", Arch: "x86_64", URL: server.URL + "/disk.qcow2", Sums: sums}},
	}
}

func TestSignedListsAreChecked(t *testing.T) {
	publisher, stranger := newSigner(t), newSigner(t)
	image := qcow2()
	sha512List := fmt.Appendf(nil, "%x  disk.qcow2\n", sha512.Sum512(image))
	sha256List := fmt.Appendf(nil, "SHA256 (disk.qcow2) = %x\n", sha256.Sum256(image))
	forged := bytes.ReplaceAll(publisher.clear(sha256List), []byte("disk.qcow2"), []byte("evil.qcow2"))
	for name, c := range map[string]struct {
		list, signature []byte
		sums            Sums
		refused         string // part of the error; "" is accepted
		unsigned        bool
	}{
		"SHA512SUMS, binary":      {list: sha512List, signature: publisher.detached(sha512List, false), sums: Sums{Kind: KindSHA512, Keyrings: []string{publisher.keyring(false)}}},
		"SHA512SUMS, armored":     {list: sha512List, signature: publisher.detached(sha512List, true), sums: Sums{Kind: KindSHA512, Keyrings: []string{publisher.keyring(true)}}},
		"SHA256SUMS":              {list: sha256List, signature: publisher.detached(sha256List, false), sums: Sums{Kind: KindSHA256, Keyrings: []string{publisher.keyring(false)}}},
		"clear-signed":            {list: publisher.clear(sha256List), sums: Sums{Kind: KindSHA256, Clear: true, Keyrings: []string{publisher.keyring(true)}}},
		"the second keyring":      {list: sha512List, signature: publisher.detached(sha512List, false), sums: Sums{Kind: KindSHA512, Keyrings: []string{"/nonexistent.gpg", publisher.keyring(false)}}},
		"no keyring here":         {list: sha512List, signature: publisher.detached(sha512List, false), sums: Sums{Kind: KindSHA512, Keyrings: []string{"/nonexistent.gpg"}}, unsigned: true},
		"clear, no keyring here":  {list: publisher.clear(sha256List), sums: Sums{Kind: KindSHA256, Clear: true}, unsigned: true},
		"another's signature":     {list: sha512List, signature: stranger.detached(sha512List, false), sums: Sums{Kind: KindSHA512, Keyrings: []string{publisher.keyring(false)}}, refused: "not signed by the publisher"},
		"of another list":         {list: sha512List, signature: publisher.detached(sha256List, false), sums: Sums{Kind: KindSHA512, Keyrings: []string{publisher.keyring(false)}}, refused: "not signed by the publisher"},
		"rubbish":                 {list: sha512List, signature: []byte("rubbish"), sums: Sums{Kind: KindSHA512, Keyrings: []string{publisher.keyring(false)}}, refused: "not signed by the publisher"},
		"no signature":            {list: sha512List, sums: Sums{Kind: KindSHA512, Keyrings: []string{publisher.keyring(false)}}, refused: "404"},
		"clear, another's":        {list: stranger.clear(sha256List), sums: Sums{Kind: KindSHA256, Clear: true, Keyrings: []string{publisher.keyring(false)}}, refused: "not signed by the publisher"},
		"clear, changed":          {list: forged, sums: Sums{Kind: KindSHA256, Clear: true, Keyrings: []string{publisher.keyring(false)}}, refused: "not signed by the publisher"},
		"clear, without any":      {list: sha256List, sums: Sums{Kind: KindSHA256, Clear: true, Keyrings: []string{publisher.keyring(false)}}, refused: "carries no signature"},
		"signed, but other image": {list: fmt.Appendf(nil, "%x  disk.qcow2\n", sha512.Sum512(nil)), sums: Sums{Kind: KindSHA512, Keyrings: []string{publisher.keyring(false)}}, refused: "publisher says"},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string][]byte{"/disk.qcow2": image, "/SUMS": c.list}
			if c.signature != nil {
				files["/SUMS.gpg"] = c.signature
			} else if name == "signed, but other image" {
				files["/SUMS.gpg"] = publisher.detached(c.list, false)
			}
			s := signedPublisher(t, files, c.sums)
			_, err := s.Open(t.Context(), disk)
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) {
					t.Errorf("open: %v, want %q", err, c.refused)
				}
				if left, _ := filepath.Glob(filepath.Join(s.Dir, "[^.]*")); len(left) != 0 {
					t.Errorf("left behind: %q", left)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if record, err := s.read("disk", "x86_64"); err != nil || record.Signed == c.unsigned {
				t.Errorf("recorded as signed: %v, %v; want %v", record.Signed, err, !c.unsigned)
			}
		})
	}
}

// TestCatalogueInventsNothing: no entry carries a digest of ours; each says
// where its publisher's is, over HTTPS, and the page of images names it.
func TestCatalogueInventsNothing(t *testing.T) {
	page, err := os.ReadFile("../docs/images.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range Catalogue() {
		for what, url := range map[string]string{"image": e.URL, "list": e.Sums.URL, "signature": e.Sums.Signature} {
			if url != "" && !strings.HasPrefix(url, "https://") {
				t.Errorf("%s, %s: the %s comes from %s, want HTTPS", e.Name, e.Arch, what, url)
			}
		}
		if e.Sums.URL == "" || e.Sums.Kind == "" {
			t.Errorf("%s, %s: no list of the publisher's", e.Name, e.Arch)
		}
		if !bytes.Contains(page, []byte("| `"+e.Name+"` | "+e.Arch+" |")) {
			t.Errorf("docs/images.md does not say what was tested of %s for %s", e.Name, e.Arch)
		}
	}
	if _, err := (&Store{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}).Open(context.Background(), Ref{Name: "https://example.org/x.qcow2", Arch: "x86_64"}); err == nil {
		t.Error("a URL without a digest was accepted")
	}
}
