// Package tarcopy makes tar archives of files here, and unpacks archives from
// somewhere that is not trusted: nothing is written outside the directory that
// was named, whatever the archive says.
package tarcopy

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Count is what was copied.
type Count struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

// Pack writes what is at local, a file or a directory, as an archive in which
// it is called name. Of what is neither, nor a link, it says so and fails.
func Pack(ctx context.Context, out io.Writer, local, name string) (Count, error) {
	var count Count
	archive := tar.NewWriter(out)
	err := filepath.WalkDir(local, func(at string, entry fs.DirEntry, err error) error {
		if err = errors.Join(err, context.Cause(ctx)); err != nil {
			return err
		}
		rel, err := filepath.Rel(local, at)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		return count.pack(archive, at, path.Join(name, filepath.ToSlash(rel)), info)
	})
	return count, errors.Join(err, archive.Close())
}

func (c *Count) pack(archive *tar.Writer, at, name string, info fs.FileInfo) error {
	link := ""
	switch kind := info.Mode().Type(); kind {
	case 0, fs.ModeDir:
	case fs.ModeSymlink:
		var err error
		if link, err = os.Readlink(at); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%s is neither a file, a directory nor a link", at)
	}
	header, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	// Who owns it here means nothing there.
	header.Name, header.Uid, header.Gid, header.Uname, header.Gname = name, 0, 0, "", ""
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return nil
	}
	file, err := os.Open(at)
	if err != nil {
		return err
	}
	defer file.Close()
	n, err := io.Copy(archive, file)
	c.Files, c.Bytes = c.Files+1, c.Bytes+n
	return err
}

// Unpack writes an archive into dir, which has to be there. The first part of
// each path is replaced by name. Devices and the like are refused.
func Unpack(ctx context.Context, in io.Reader, dir, name string) (Count, error) {
	var count Count
	root, err := os.OpenRoot(dir)
	if err != nil {
		return count, err
	}
	defer root.Close()
	archive := tar.NewReader(in)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return count, nil
		}
		if err = errors.Join(err, context.Cause(ctx)); err != nil {
			return count, err
		}
		_, rest, _ := strings.Cut(strings.TrimPrefix(path.Clean("/"+header.Name), "/"), "/")
		if err := count.unpack(root, archive, header, filepath.FromSlash(path.Join(name, rest))); err != nil {
			return count, fmt.Errorf("unpack %q: %w", header.Name, err)
		}
	}
}

func (c *Count) unpack(root *os.Root, archive io.Reader, header *tar.Header, name string) error {
	mode := header.FileInfo().Mode().Perm()
	switch header.Typeflag {
	case tar.TypeDir:
		if err := root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return root.Chmod(name, mode|0o700) // what comes next has to fit in
	case tar.TypeReg:
		// A link in its place would be written through; within the root, but it is not the file that is copied.
		if info, err := root.Lstat(name); err == nil && !info.IsDir() {
			if err := root.Remove(name); err != nil {
				return err
			}
		}
		file, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
		if err != nil {
			return err
		}
		n, err := io.Copy(file, archive) //nolint:gosec // as long as the person lets it
		c.Files, c.Bytes = c.Files+1, c.Bytes+n
		return errors.Join(err, file.Close())
	case tar.TypeSymlink:
		if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return root.Symlink(header.Linkname, name)
	}
	return fmt.Errorf("it is of kind %q, which is not copied", header.Typeflag)
}
