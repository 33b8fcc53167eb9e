package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/pkg/sftp"
)

// Put copies a file or a directory into the guest. An existing directory as
// target takes the source under its own name, as cp does.
func (c *Client) Put(ctx context.Context, local, remote string) error {
	return c.transfer(ctx, func(s *sftp.Client) error {
		if info, err := s.Stat(remote); err == nil && info.IsDir() {
			remote = path.Join(remote, filepath.Base(local))
		}
		return filepath.WalkDir(local, func(from string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			rest, err := filepath.Rel(local, from)
			if err != nil {
				return err
			}
			to := path.Join(remote, filepath.ToSlash(rest))
			if entry.IsDir() {
				return s.MkdirAll(to)
			}
			return putFile(s, from, to)
		})
	})
}

func putFile(s *sftp.Client, from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", from)
	}
	out, err := s.Create(to)
	if err != nil {
		return fmt.Errorf("write %s in the guest: %w", to, err)
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := io.Copy(out, in); err != nil {
		return fmt.Errorf("write %s in the guest: %w", to, err)
	}
	return out.Chmod(info.Mode().Perm())
}

// Get copies a file or a directory out of the guest.
func (c *Client) Get(ctx context.Context, remote, local string) error {
	return c.transfer(ctx, func(s *sftp.Client) error {
		if info, err := os.Stat(local); err == nil && info.IsDir() {
			local = filepath.Join(local, path.Base(remote))
		}
		walker := s.Walk(remote)
		for walker.Step() {
			if err := errors.Join(walker.Err(), ctx.Err()); err != nil {
				return fmt.Errorf("read %s in the guest: %w", walker.Path(), err)
			}
			rest, err := filepath.Rel(remote, walker.Path())
			if err != nil {
				return err
			}
			to := filepath.Join(local, filepath.FromSlash(rest))
			if walker.Stat().IsDir() {
				err = os.MkdirAll(to, 0o755)
			} else {
				err = getFile(s, walker.Path(), to, walker.Stat().Mode().Perm())
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func getFile(s *sftp.Client, from, to string, mode fs.FileMode) (err error) {
	in, err := s.Open(from)
	if err != nil {
		return fmt.Errorf("read %s in the guest: %w", from, err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := io.Copy(out, in); err != nil {
		return fmt.Errorf("read %s in the guest: %w", from, err)
	}
	return nil
}

// transfer opens SFTP for do, and cuts the connection when ctx ends.
func (c *Client) transfer(ctx context.Context, do func(*sftp.Client) error) error {
	s, err := sftp.NewClient(c.Client)
	if err != nil {
		return fmt.Errorf("open SFTP: %w", err)
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if err := do(s); err != nil {
		return errors.Join(ctx.Err(), err)
	}
	return nil
}
