// Package disk keeps what the agent has to know without a network: the desired
// state that it last accepted, and the nonces of commands that it has seen. It
// owns the files in the state directory and their integrity; what is in them
// was verified by the caller before it got here.
package disk

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	dirMode  fs.FileMode = 0o700
	fileMode fs.FileMode = 0o600
)

// unfinished is how the files are named that are being written.
const unfinished = ".new-*"

// Tidy removes what writes left in dir that a crash or a full disk cut off.
func Tidy(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, unfinished))
	for _, path := range left {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// ErrTorn says that a file is not what was written: cut, or changed.
var ErrTorn = errors.New("checksum does not match")

// writeSummed replaces path with data below a line with its SHA-256. After a
// crash at any moment the file has its old or its new content.
func writeSummed(path string, data []byte) (err error) {
	sum := sha256.Sum256(data)
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, unfinished)
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // gone already when it was renamed
	_, err = fmt.Fprintf(tmp, "sha256 %s\n%s", hex.EncodeToString(sum[:]), data)
	if err == nil {
		err = tmp.Chmod(fileMode)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// readSummed is the inverse of writeSummed.
func readSummed(path string) ([]byte, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	first, data, found := bytes.Cut(content, []byte("\n"))
	sum := sha256.Sum256(data)
	if !found || string(first) != "sha256 "+hex.EncodeToString(sum[:]) {
		return nil, fmt.Errorf("%s: %w", path, ErrTorn)
	}
	return data, nil
}

// syncDir makes a rename durable (rename(2) alone is only atomic).
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
