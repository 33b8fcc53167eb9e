package hostcfg

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// File is a regular file with this content, owner and mode. Its directory has
// to exist or be declared before it.
type File struct {
	Path    string
	Content string
	// Source is a local file that is streamed instead of Content; it is
	// compared by SHA-256. No diff is shown.
	Source string
	Owner  string      // login name or uid; "" is root
	Group  string      // group name or gid; "" is root
	Mode   fs.FileMode // 0 is 0644
	// Sensitive keeps the content out of diffs, JSON and messages.
	Sensitive bool

	write fileWrite // filled in by prepare
}

// ID is "file:PATH".
func (f File) ID() string { return "file:" + f.Path }

func (f File) claims() []claim { return []claim{{path: f.Path}} }

func (f File) prepare() (Resource, error) {
	if f.Source != "" && f.write.source == f.Source && f.write.path == f.Path {
		return f, nil // prepared for many hosts at once: see Prepare
	}
	if err := errors.Join(checkPath(f.Path), checkOwner(&f.Owner, &f.Group), checkMode(&f.Mode)); err != nil {
		return nil, err
	}
	if f.Mode == 0 {
		f.Mode = 0o644
	}
	w := &f.write
	*w = fileWrite{path: f.Path, owner: f.Owner, group: f.Group, mode: f.Mode, source: f.Source, sensitive: f.Sensitive}
	if f.Source == "" {
		w.content = []byte(f.Content)
		w.size, w.sha256 = int64(len(f.Content)), hashOf(w.content)
		return f, nil
	}
	if f.Content != "" {
		return nil, errors.New("has both Content and Source")
	}
	var err error
	if w.sha256, w.size, err = hashFile(f.Source); err != nil {
		return nil, fmt.Errorf("read source: %w", err)
	}
	return f, nil
}

func (f File) probe(q *query) {
	q.file(f.Path, f.write.unless())
	if f.Sensitive {
		q.secret[f.Path], q.secret[TempPath(f.Path)] = true, true
	}
}

func (f File) plan(s *state, st *Step) error {
	_, err := f.write.plan(s, st)
	return err
}

func hashFile(name string) (hash string, size int64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = f.Close() }() // only read from
	h := sha256.New()
	if size, err = io.Copy(h, f); err != nil {
		return "", 0, err
	}
	return hex.EncodeToString(h.Sum(nil)), size, nil
}

// checkOwner checks owner and group and fills in root.
func checkOwner(owner, group *string) error {
	if *owner == "" {
		*owner = "root"
	}
	if *group == "" {
		*group = "root"
	}
	return errors.Join(checkAccount("owner", *owner), checkAccount("group", *group))
}

// checkMode takes setuid, setgid and the sticky bit in Go's notation or, as
// everybody writes them, in Unix's: 0o1777.
func checkMode(m *fs.FileMode) error {
	if extra := *m &^ (0o7777 | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky); extra != 0 {
		return fmt.Errorf("mode %v holds more than permissions", *m)
	}
	*m = *m&^0o7000 | unixMode(uint64(*m&0o7000))
	return nil
}
