// Package secretfile keeps small secrets in files: a directory that only its
// owner enters, files that only their owner reads, writes that are either whole
// or not there. It knows nothing of what the secrets are.
package secretfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/nationtech/fleetctl/internal/hint"
)

const (
	dirMode   fs.FileMode = 0o700
	fileMode  fs.FileMode = 0o600
	ownedMode fs.FileMode = 0o400
	others    fs.FileMode = 0o077
	groupRead fs.FileMode = 0o040
)

// EnsureDir makes dir and its parents, and refuses one that others may enter.
func EnsureDir(dir string) error {
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return fmt.Errorf("make directory for secrets: %w", err)
	}
	return refuseOthers(dir, "chmod 700 "+dir)
}

// Read reads a secret, and refuses a file that others may read: by then the
// secret has to be taken for known. A group may read what root shows it, as a
// Kubernetes Secret is shown to a pod's group: nobody but root made it so. A
// missing file is fs.ErrNotExist.
func Read(path string) ([]byte, error) {
	if err := refuseOthers(path, "replace the secret if others had access, else: chmod 600 "+path); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read secret: %w", err)
	}
	return data, nil
}

// Write replaces path with data. After a crash at any moment the file has
// either its old or its new content.
func Write(path string, data []byte) error { return put(path, data, Self, os.Rename) }

// Owner is the account that a secret is for. Its files are 0400: what the
// account cannot change, a fault in its program cannot either.
type Owner struct{ UID, GID int }

// Self keeps a file with the account that writes it, 0600.
var Self = Owner{-1, -1}

// WriteFor is Write for another account's secret; only root can do that.
func WriteFor(owner Owner, path string, data []byte) error { return put(path, data, owner, os.Rename) }

// LoadOrCreateFor is LoadOrCreate for another account's secret.
func LoadOrCreateFor(owner Owner, path string, create func() ([]byte, error)) ([]byte, error) {
	return loadOrCreate(owner, path, create)
}

// LoadOrCreate reads path or, when there is none, makes its content and writes
// it. It never replaces a file: of two processes that create at once, one
// writes and both read the same.
func LoadOrCreate(path string, create func() ([]byte, error)) ([]byte, error) {
	return loadOrCreate(Self, path, create)
}

func loadOrCreate(owner Owner, path string, create func() ([]byte, error)) ([]byte, error) {
	data, err := Read(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return data, err
	}
	if data, err = create(); err != nil {
		return nil, fmt.Errorf("make secret %s: %w", path, err)
	}
	if err := put(path, data, owner, os.Link); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return Read(path)
}

func refuseOthers(path, fix string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("look at secret: %w", err)
	}
	mode := info.Mode().Perm()
	if !info.IsDir() && shownByRoot(info) {
		mode &^= groupRead
	}
	if mode&others != 0 {
		return hint.Wrap(fmt.Errorf("%s is accessible to others (mode %04o)", path, mode), fix)
	}
	return nil
}

// shownByRoot says whether a file is root's and belongs to a group of ours.
func shownByRoot(info fs.FileInfo) bool {
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid != 0 || os.Geteuid() == 0 { // root has no need of a group
		return false
	}
	groups, err := os.Getgroups()
	return err == nil && slices.Contains(append(groups, os.Getegid()), int(owner.Gid))
}

// put writes data to a temporary file beside path and publishes it there with
// os.Rename, which replaces, or os.Link, which does not.
func put(path string, data []byte, owner Owner, publish func(from, to string) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write secret %s: %w", path, err)
		}
	}()
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, ".new-*") // with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // gone already when it was renamed
	mode := fileMode
	if owner != Self {
		mode = ownedMode
		err = tmp.Chown(owner.UID, owner.GID)
	}
	if err == nil {
		_, err = tmp.Write(data)
	}
	if err == nil {
		err = tmp.Chmod(mode)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := publish(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes a rename durable (rename(2) alone is only atomic).
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
