package localhost

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"github.com/nationtech/fleetctl/hostcfg"
)

// Put replaces a file atomically. See hostcfg.Host.
func (*Host) Put(ctx context.Context, u hostcfg.Upload) (err error) {
	uid, err := lookup(u.Owner, func(name string) (string, error) {
		found, err := user.Lookup(name)
		if err != nil {
			return "", err
		}
		return found.Uid, nil
	})
	if err != nil {
		return fmt.Errorf("put %s: owner: %w", u.Path, err)
	}
	gid, err := lookup(u.Group, func(name string) (string, error) {
		found, err := user.LookupGroup(name)
		if err != nil {
			return "", err
		}
		return found.Gid, nil
	})
	if err != nil {
		return fmt.Errorf("put %s: group: %w", u.Path, err)
	}
	temp := hostcfg.TempPath(u.Path)
	if err := os.Remove(temp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("put %s: %w", u.Path, err)
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("put %s: %w", u.Path, err)
	}
	defer func() {
		if err != nil {
			_ = f.Close() // a second Close of a closed file is harmless
			_ = os.Remove(temp)
			err = fmt.Errorf("put %s: %w", u.Path, err)
		}
	}()
	if err := errors.Join(f.Chown(uid, gid), f.Chmod(u.Mode)); err != nil {
		return err
	}
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(f, sum), reader{ctx, u.Content}); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); u.SHA256 != "" && got != u.SHA256 {
		return fmt.Errorf("content has SHA-256 %s, not %s", got, u.SHA256)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, u.Path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(u.Path))
}

// lookup turns a decimal id or a name into an id; "" is root.
func lookup(name string, find func(string) (string, error)) (int, error) {
	if name == "" || name == "root" {
		return 0, nil
	}
	if id, err := strconv.Atoi(name); err == nil {
		return id, nil
	}
	id, err := find(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(id)
}

// syncDir makes a rename in the directory survive a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// reader stops a copy when ctx ends.
type reader struct {
	ctx context.Context
	io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.Reader.Read(p)
}
