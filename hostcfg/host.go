// Package hostcfg says what a Linux host should have and makes it so: a
// Resource is checked without writing, the differences become a Plan that is
// data, and Apply executes exactly that plan. It owns resources, plans and the
// order of things; how a host is reached is behind Host (sshhost, localhost),
// and which resources make a device is the onboard package's affair.
package hostcfg

import (
	"context"
	"io"
	"io/fs"
	"path"
	"time"
)

// Host is a machine that resources are checked on and applied to.
type Host interface {
	// Name is how messages call the host, such as "pi@192.0.2.7:22".
	Name() string
	// Run runs a script with POSIX sh. A status other than 0 is in Result,
	// not an error; an error means that the script could not be run to its
	// end (connection lost, deadline, sudo refused).
	Run(ctx context.Context, c Command) (Result, error)
	// Get reads a file as root, up to limit bytes; a larger file is an error.
	// A missing file gives an error that wraps fs.ErrNotExist.
	Get(ctx context.Context, path string, limit int64) ([]byte, error)
	// Put replaces a file as root, atomically: the content goes to a
	// temporary file in the same directory (TempPath), with owner and mode set before
	// any of it is written, is flushed to disk and renamed over the path.
	// When interrupted the original stays and no temporary file is left
	// where the connection still allows to remove it.
	Put(ctx context.Context, f Upload) error
}

// Command is a script for Host.Run. A script can hold secrets (the content of
// a file): a Host never logs it, and never puts it on a command line.
type Command struct {
	Script   string        // POSIX sh, run as root unless User says otherwise
	User     string        // login name to run as; "" is root
	Stdin    io.Reader     // nil is an empty input
	Timeout  time.Duration // 0 is the host's default
	ReadOnly bool          // the script changes nothing; a dry-run host refuses all others
}

// Result is what a script left behind.
type Result struct {
	Stdout, Stderr []byte
	ExitCode       int
}

// Upload is a whole file for Host.Put.
type Upload struct {
	Path    string
	Content io.Reader
	Owner   string // login name or decimal uid; "" is root
	Group   string // group name or decimal gid; "" is root
	Mode    fs.FileMode
	SHA256  string // hex; when set, what arrived is compared before the rename
}

// TempPath is the temporary file that stands beside path while its content
// arrives. The name is the same each time: what a killed run left behind is
// overwritten by the next one, or found by the next plan and removed.
func TempPath(name string) string {
	dir, base := path.Split(name)
	return dir + "." + base + ".fleetctl-new"
}
