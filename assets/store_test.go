package assets

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// publisher serves one image and its list of digests.
type publisher struct {
	*httptest.Server
	image   []byte
	full    atomic.Int32 // requests for all of it
	partial atomic.Int32 // requests for the rest
	cut     atomic.Int32 // that many answers break off in the middle
}

// qcow2 is a file that looks like an image, larger than any buffer.
func qcow2() []byte {
	image := make([]byte, 3<<20)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(image) // never fails
	clear(image[:qcow2Header])
	binary.BigEndian.PutUint32(image, qcow2Magic)
	binary.BigEndian.PutUint64(image[qcow2Size:], 2<<30)
	return image
}

func newPublisher(t *testing.T) *publisher {
	t.Helper()
	p := &publisher{image: qcow2()}
	mux := http.NewServeMux()
	mux.HandleFunc("/SHA512SUMS", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "%x  other.qcow2\n%x  disk.qcow2\n", sha512.Sum512(nil), sha512.Sum512(p.image))
	})
	mux.HandleFunc("/disk.qcow2", func(w http.ResponseWriter, r *http.Request) {
		counter := &p.full
		if r.Header.Get("Range") != "" {
			counter = &p.partial
		}
		counter.Add(1)
		w.Header().Set("ETag", `"v1"`)
		if p.cut.Add(-1) >= 0 {
			w.Header().Set("Content-Length", fmt.Sprint(len(p.image)))
			_, _ = w.Write(p.image[:len(p.image)/2])
			panic(http.ErrAbortHandler)
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(p.image))
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

func (p *publisher) store(t *testing.T) *Store {
	t.Helper()
	return &Store{
		Dir: filepath.Join(t.TempDir(), "images"), Client: p.Client(), Stall: 5 * time.Second, Log: slog.New(slog.DiscardHandler),
		Entries: []Entry{{Name: "disk", Arch: "x86_64", URL: p.URL + "/disk.qcow2", Sums: Sums{URL: p.URL + "/SHA512SUMS", Kind: KindSHA512}}},
	}
}

var disk = Ref{Name: "disk", Arch: "x86_64"}

func openDisk(t *testing.T, s *Store, want []byte) Image {
	t.Helper()
	image, err := s.Open(t.Context(), disk)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(image.Path)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("the image has other content than its publisher's (%v)", err)
	}
	if image.SHA256 != fmt.Sprintf("%x", sha256.Sum256(want)) || image.Format != "qcow2" || image.Size != 2<<30 {
		t.Errorf("image %+v", image)
	}
	return image
}

func TestTwentyOpensMakeOneDownload(t *testing.T) {
	p := newPublisher(t)
	s := p.store(t)
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if _, err := s.Open(t.Context(), disk); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := p.full.Load() + p.partial.Load(); n != 1 {
		t.Errorf("%d downloads, want 1", n)
	}
}

func TestBrokenDownloadGoesOn(t *testing.T) {
	p := newPublisher(t)
	p.cut.Store(1)
	openDisk(t, p.store(t), p.image)
	if p.full.Load() != 1 || p.partial.Load() != 1 {
		t.Errorf("%d downloads of all and %d of the rest, want one each", p.full.Load(), p.partial.Load())
	}
}

func TestEveryFlippedBitIsFoundAndRepaired(t *testing.T) {
	p := newPublisher(t)
	s := p.store(t)
	image := openDisk(t, s, p.image)
	for _, at := range []int64{0, 40, 1 << 20, int64(len(p.image)) - 1} {
		file, err := os.OpenFile(image.Path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteAt([]byte{p.image[at] ^ 1}, at); err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		openDisk(t, s, p.image)
	}
	if n := p.full.Load(); n != 5 {
		t.Errorf("%d downloads, want the first and four repairs", n)
	}
}

func TestStaleRemainderOfAnOlderImageIsDropped(t *testing.T) {
	p := newPublisher(t)
	s := p.store(t)
	partial := partialPath(s.path("disk", "x86_64"))
	if err := errors.Join(os.MkdirAll(s.Dir, 0o700), os.WriteFile(partial, []byte("older"), 0o600), os.WriteFile(tagPath(partial), []byte(`"v1"`), 0o600)); err != nil {
		t.Fatal(err)
	}
	openDisk(t, s, p.image)
}

func TestWrongContentIsRefusedAndNotKept(t *testing.T) {
	p := newPublisher(t)
	s := p.store(t)
	s.Entries[0].Sums.URL = p.URL + "/lies"
	mux := http.NewServeMux()
	mux.HandleFunc("/lies", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "SHA512 (disk.qcow2) = %x\n", sha512.Sum512([]byte("other")))
	})
	liar := httptest.NewServer(mux)
	defer liar.Close()
	s.Entries[0].Sums.URL = liar.URL + "/lies"
	if _, err := s.Open(t.Context(), disk); err == nil || !strings.Contains(err.Error(), "publisher says") {
		t.Errorf("open: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(s.Dir, "[^.]*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

func TestImportRefusesWhatIsNoImage(t *testing.T) {
	s := newPublisher(t).store(t)
	file := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(file, []byte("not a disk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Import(t.Context(), "mine", "x86_64", file, ""); err == nil {
		t.Error("a text was imported")
	}
	if err := os.WriteFile(file, qcow2(), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Import(t.Context(), "disk", "x86_64", file, ""); err == nil {
		t.Error("a name of the catalogue was taken")
	}
	if _, err := s.Import(t.Context(), "mine", "x86_64", file, strings.Repeat("0", 64)); err == nil {
		t.Error("a wrong digest was accepted")
	}
	if _, err := s.Import(t.Context(), "mine", "x86_64", file, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(t.Context(), Ref{Name: "mine", Arch: "x86_64"}); err != nil {
		t.Error(err)
	}
	if err := s.Remove(t.Context(), "mine", "x86_64"); err != nil {
		t.Error(err)
	}
	if _, err := s.Open(t.Context(), Ref{Name: "mine", Arch: "x86_64"}); err == nil {
		t.Error("a removed image was opened")
	}
}

func TestSSHKeyIsMadeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir", "id_ed25519")
	keys := make([]SSHKey, 20)
	var group sync.WaitGroup
	for i := range keys {
		group.Go(func() {
			var err error
			if keys[i], err = EnsureSSHKey(path, "test"); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for _, key := range keys {
		if key.Authorized != keys[0].Authorized {
			t.Fatalf("two keys: %q and %q", key.Authorized, keys[0].Authorized)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("private key: %v, %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".id-*")); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
	if _, err := LoadSSHKey(path + "-missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing key: %v", err)
	}
}

func BenchmarkVerify(b *testing.B) {
	path := filepath.Join(b.TempDir(), "image")
	content := bytes.Repeat(qcow2(), 40)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		if _, err := SHA256File(context.Background(), path); err != nil {
			b.Fatal(err)
		}
	}
}
