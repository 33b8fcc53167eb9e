// Package beside finds the programs and files that are installed together with
// the one that runs.
package beside

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Places says where that is, for messages.
const Places = "beside fleetctl or in ../libexec/fleetctl"

// Find gives the path of the regular file of that name in the directory of this
// program, links followed, or in ../libexec/fleetctl from there: make build uses
// the one, packages the other (FHS 3.0, 4.7). The error is fs.ErrNotExist when
// there is none.
func Find(name string) (string, error) {
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if err != nil {
		return "", fmt.Errorf("find this program's own directory: %w", err)
	}
	return find(filepath.Dir(self), name)
}

func find(dir, name string) (string, error) {
	for _, place := range []string{".", "../libexec/fleetctl"} {
		path := filepath.Join(dir, place, name)
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return "", fmt.Errorf("find %s: %w", name, err)
		case info.Mode().IsRegular():
			return path, nil
		}
	}
	return "", missing{name}
}

// missing is an fs.ErrNotExist that says where the file should be.
type missing struct{ name string }

func (m missing) Error() string { return "there is no " + m.name + " " + Places }

func (m missing) Is(target error) bool { return target == fs.ErrNotExist }
