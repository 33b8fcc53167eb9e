package assets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
)

// published is what a publisher says of an image.
type published struct {
	kind   DigestKind
	digest string
	signed bool
}

// ensure returns the kept image, verified, or fetches it.
func (s *Store) ensure(ctx context.Context, entry Entry, digest func(context.Context) (published, error)) (Image, error) {
	unlock, err := s.lock(ctx, entry.Name, entry.Arch)
	if err != nil {
		return Image{}, err
	}
	defer unlock()
	record, err := s.read(entry.Name, entry.Arch)
	if err == nil {
		image, err := s.verify(ctx, record)
		if err == nil || ctx.Err() != nil {
			return image, err
		}
		s.Log.Warn("the kept image is damaged; fetching it again", "image", entry.Name, "error", err)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return Image{}, err
	}
	return s.fetch(ctx, entry, digest)
}

// verify hashes a kept image.
func (s *Store) verify(ctx context.Context, record Record) (Image, error) {
	file := s.path(record.Name, record.Arch)
	have, err := SHA256File(ctx, file)
	if err != nil {
		return Image{}, err
	}
	if have != record.SHA256 {
		return Image{}, fmt.Errorf("image %s has SHA-256 %s, and had %s when it was stored", record.Name, have, record.SHA256)
	}
	disk, err := InspectDisk(file)
	if err != nil {
		return Image{}, err
	}
	return Image{Name: record.Name, Path: file, SHA256: have, Disk: disk}, nil
}

// fetch downloads, verifies, and only then gives the file its name. A resumed
// download that does not match is begun once more from nothing: its first part
// may be of an older image.
func (s *Store) fetch(ctx context.Context, entry Entry, digest func(context.Context) (published, error)) (Image, error) {
	want, err := digest(ctx)
	if err != nil {
		return Image{}, err
	}
	partial := partialPath(s.path(entry.Name, entry.Arch))
	resumed := isRegular(partial)
	for {
		if err := s.downloader(entry.Name).file(ctx, entry.URL, partial); err != nil {
			return Image{}, err
		}
		have, err := hashFile(ctx, partial, KindSHA256, want.kind)
		if err != nil {
			return Image{}, err
		}
		if have[want.kind] == want.digest {
			return s.keep(ctx, partial, Record{
				Name: entry.Name, Arch: entry.Arch, Source: entry.URL, SHA256: have[KindSHA256],
				Published: string(want.kind) + ":" + want.digest, Signed: want.signed,
			})
		}
		if err := errors.Join(os.Remove(partial), writeTag(partial, "")); err != nil {
			return Image{}, fmt.Errorf("remove a wrong download: %w", err)
		}
		if !resumed {
			return Image{}, hint.New(fmt.Sprintf("%s has %s %s, and its publisher says %s", entry.URL, want.kind, have[want.kind], want.digest),
				"try again later: the publisher may be replacing it; otherwise somebody changed it on the way")
		}
		resumed = false
	}
}

// keep gives a verified file its place. The record comes last: without it there
// is no image.
func (s *Store) keep(ctx context.Context, file string, record Record) (Image, error) {
	target := s.path(record.Name, record.Arch)
	info, err := os.Stat(file)
	if err != nil {
		return Image{}, fmt.Errorf("keep image: %w", err)
	}
	record.Bytes, record.Added = info.Size(), time.Now().UTC().Truncate(time.Second)
	disk, err := InspectDisk(file)
	if err != nil {
		return Image{}, errors.Join(err, os.Remove(file))
	}
	data, err := json.MarshalIndent(record, "", "  ")
	if err != nil {
		return Image{}, fmt.Errorf("encode image record: %w", err)
	}
	if err := errors.Join(removeIfThere(target+".json"), os.Rename(file, target), writeTag(file, "")); err != nil {
		return Image{}, fmt.Errorf("keep image %s: %w", record.Name, err)
	}
	temp := target + ".json.new"
	if err := errors.Join(os.WriteFile(temp, data, 0o600), os.Rename(temp, target+".json")); err != nil {
		return Image{}, fmt.Errorf("keep image %s: %w", record.Name, err)
	}
	return Image{Name: record.Name, Path: target, SHA256: record.SHA256, Disk: disk}, ctx.Err()
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// published reads an image's digest from the publisher's list, and checks the
// list's signature where this machine has the publisher's keys.
func (s *Store) published(ctx context.Context, url string, sums Sums) (published, error) {
	get := s.downloader("")
	list, err := get.list(ctx, sums.URL)
	if err != nil {
		return published{}, err
	}
	signed := false
	switch {
	case sums.Clear:
		list, err = openClear(list, sums.Keyrings)
		signed = err == nil
	case sums.Signature != "":
		var signature []byte
		if signature, err = get.list(ctx, sums.Signature); err != nil {
			return published{}, err
		}
		err = verifyDetached(list, signature, sums.Keyrings)
		signed = err == nil
	}
	if errors.Is(err, errNoKeyring) {
		s.Log.Warn("the publisher's signature is not checked, only its HTTPS certificate", "list", sums.URL, "reason", err)
	} else if err != nil {
		return published{}, err
	}
	digest, err := findSum(list, path.Base(url), sums.Kind)
	return published{kind: sums.Kind, digest: digest, signed: signed}, err
}

func (s *Store) downloader(name string) downloader {
	d := downloader{client: s.Client, stall: s.Stall, tries: 4, pause: 500 * time.Millisecond}
	if d.client == nil {
		d.client = http.DefaultClient // honours the proxy variables
	}
	if d.stall == 0 {
		d.stall = 30 * time.Second
	}
	if s.Progress != nil && name != "" {
		d.progress = func(done, total int64) { s.Progress(name, done, total) }
	}
	return d
}

var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// Import copies a file into the store under a name of the user's choice.
func (s *Store) Import(ctx context.Context, name, arch, file, want string) (Image, error) {
	if !namePattern.MatchString(name) {
		return Image{}, hint.WithCode(hint.New(fmt.Sprintf("%q cannot be an image's name", name), "use lower-case letters, digits, dots and hyphens"), hint.CodeUsage)
	}
	if _, err := lookup(s.Entries, name, arch); err == nil {
		return Image{}, hint.WithCode(hint.New(name+" is the name of an image that can be downloaded", "choose another name"), hint.CodeUsage)
	}
	if _, err := InspectDisk(file); err != nil {
		return Image{}, err
	}
	unlock, err := s.lock(ctx, name, arch)
	if err != nil {
		return Image{}, err
	}
	defer unlock()
	absolute, err := filepath.Abs(file)
	if err != nil {
		return Image{}, fmt.Errorf("import image: %w", err)
	}
	copied := partialPath(s.path(name, arch))
	if err := copyFile(ctx, file, copied); err != nil {
		return Image{}, errors.Join(fmt.Errorf("import image %s: %w", name, err), removeIfThere(copied))
	}
	have, err := SHA256File(ctx, copied)
	if err != nil {
		return Image{}, err
	}
	if want != "" && !strings.EqualFold(want, have) {
		return Image{}, errors.Join(mismatch(file, want, have), os.Remove(copied))
	}
	return s.keep(ctx, copied, Record{Name: name, Arch: arch, Source: absolute, SHA256: have})
}

func copyFile(ctx context.Context, from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	stop := context.AfterFunc(ctx, func() { in.Close() })
	defer stop()
	if _, err := io.Copy(out, in); err != nil {
		return errors.Join(ctx.Err(), err)
	}
	return out.Sync()
}
