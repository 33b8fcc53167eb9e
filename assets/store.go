package assets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
)

// Image is a disk image on this machine whose content was just verified.
type Image struct {
	Name   string
	Path   string
	SHA256 string // hex
	Disk
}

// Record is what the store knows of an image that it keeps. SHA256 was computed
// here, over the very bytes that matched the publisher's digest.
type Record struct {
	Name      string    `json:"name"`
	Arch      string    `json:"arch"`
	Source    string    `json:"source"` // URL, or the path it was imported from
	SHA256    string    `json:"sha256"`
	Published string    `json:"published,omitempty"` // publisher's digest, "sha512:HEX"
	Signed    bool      `json:"signed"`              // the publisher's signature was checked
	Bytes     int64     `json:"bytes"`
	Added     time.Time `json:"added"`
}

// Store keeps images in a directory, shared by all processes of a user.
type Store struct {
	Dir     string
	Entries []Entry // what can be downloaded by name; Catalogue() normally
	Client  *http.Client
	// Stall is how long a server may be silent.
	Stall    time.Duration
	Log      *slog.Logger
	Progress func(name string, done, total int64) // may be nil
}

// Ref names an image as a user does.
type Ref struct {
	Name   string // a name, a path, or a URL
	Arch   string
	SHA256 string // what it must be; required for a URL
}

// Open finds an image, downloads it where it is not here, and verifies all of
// it. What is damaged in the store is fetched again.
func (s *Store) Open(ctx context.Context, ref Ref) (Image, error) {
	switch {
	case strings.HasPrefix(ref.Name, "http://"), strings.HasPrefix(ref.Name, "https://"):
		return s.openURL(ctx, ref)
	case strings.ContainsRune(ref.Name, '/'), isRegular(ref.Name):
		return openPath(ctx, ref)
	}
	return s.openName(ctx, ref)
}

func isRegular(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func openPath(ctx context.Context, ref Ref) (Image, error) {
	disk, err := InspectDisk(ref.Name)
	if err != nil {
		return Image{}, err
	}
	have, err := SHA256File(ctx, ref.Name)
	if err != nil {
		return Image{}, err
	}
	if ref.SHA256 != "" && !strings.EqualFold(ref.SHA256, have) {
		return Image{}, mismatch(ref.Name, ref.SHA256, have)
	}
	return Image{Name: filepath.Base(ref.Name), Path: ref.Name, SHA256: have, Disk: disk}, nil
}

func mismatch(what, want, have string) error {
	return hint.New(fmt.Sprintf("image %s has SHA-256 %s, want %s", what, have, want), "get the image again, or correct --sha256")
}

// openURL keeps what it downloads under its digest, so that two URLs of the
// same content are one file.
func (s *Store) openURL(ctx context.Context, ref Ref) (Image, error) {
	if len(ref.SHA256) != KindSHA256.hexLength() {
		return Image{}, hint.WithCode(hint.New("an image from a URL needs its digest", "add --sha256 HEX, as its publisher gives it"), hint.CodeUsage)
	}
	name := "sha256-" + strings.ToLower(ref.SHA256)
	entry := Entry{Name: name, Arch: ref.Arch, URL: ref.Name}
	image, err := s.ensure(ctx, entry, func(context.Context) (published, error) {
		return published{kind: KindSHA256, digest: strings.ToLower(ref.SHA256)}, nil
	})
	image.Name = filepath.Base(ref.Name)
	return image, err
}

func (s *Store) openName(ctx context.Context, ref Ref) (Image, error) {
	record, err := s.read(ref.Name, ref.Arch)
	imported := err == nil && !strings.Contains(record.Source, "://")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Image{}, err
	}
	var image Image
	if imported {
		image, err = s.verify(ctx, record)
		if err != nil {
			err = hint.Wrap(err, "import it again: fleetctl image import "+ref.Name+" FILE")
		}
	} else {
		entry, missing := lookup(s.Entries, ref.Name, ref.Arch)
		if missing != nil {
			return Image{}, missing
		}
		image, err = s.ensure(ctx, entry, func(ctx context.Context) (published, error) { return s.published(ctx, entry.URL, entry.Sums) })
	}
	if err == nil && ref.SHA256 != "" && !strings.EqualFold(ref.SHA256, image.SHA256) {
		return Image{}, mismatch(ref.Name, ref.SHA256, image.SHA256)
	}
	return image, err
}

// List reports what the store keeps, by name.
func (s *Store) List() ([]Record, error) {
	names, err := filepath.Glob(filepath.Join(s.Dir, "*.json"))
	if err != nil {
		return nil, fmt.Errorf("list the images: %w", err)
	}
	records := make([]Record, 0, len(names))
	for _, name := range names {
		record, err := readRecord(name)
		if err != nil {
			return nil, err
		}
		records = append(records, record)
	}
	sort.Slice(records, func(i, j int) bool {
		return records[i].Name+"/"+records[i].Arch < records[j].Name+"/"+records[j].Arch
	})
	return records, nil
}

// Remove forgets an image. Machines made from it have their own copy.
func (s *Store) Remove(ctx context.Context, name, arch string) error {
	unlock, err := s.lock(ctx, name, arch)
	if err != nil {
		return err
	}
	defer unlock()
	path := s.path(name, arch)
	found := false
	for _, file := range []string{path + ".json", path, partialPath(path), tagPath(partialPath(path))} {
		switch err := os.Remove(file); {
		case err == nil:
			found = true
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("remove image %s: %w", name, err)
		}
	}
	if !found {
		return hint.New(fmt.Sprintf("no image %s for %s is kept here", name, arch), "see: fleetctl image list")
	}
	return nil
}

func (s *Store) path(name, arch string) string { return filepath.Join(s.Dir, name+"-"+arch) }
func partialPath(path string) string           { return path + ".partial" }

func (s *Store) read(name, arch string) (Record, error) {
	return readRecord(s.path(name, arch) + ".json")
}

func readRecord(path string) (Record, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Record{}, fmt.Errorf("read image record: %w", err)
	}
	var record Record
	if err := json.Unmarshal(data, &record); err != nil {
		return Record{}, hint.Wrap(fmt.Errorf("decode image record %s: %w", path, err), "remove that file; the image is fetched again")
	}
	return record, nil
}

// lock keeps other processes, and goroutines, from the same image: of twenty
// that start at once, one downloads and nineteen find it done.
func (s *Store) lock(ctx context.Context, name, arch string) (unlock func(), err error) {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the image directory: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(s.Dir, ".lock-"+name+"-"+arch), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock image %s: %w", name, err)
	}
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			_ = file.Close()
			return nil, fmt.Errorf("lock image %s: %w", name, err)
		}
		select {
		case <-ctx.Done():
			_ = file.Close()
			return nil, fmt.Errorf("wait for another fleetctl that fetches %s: %w", name, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}
