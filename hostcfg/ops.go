package hostcfg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"
)

// op is one operation of a step, complete: nothing is decided while applying.
type op interface {
	apply(ctx context.Context, s *session) error
}

// secretText is a script that may hold file contents; it prints as nothing.
type secretText string

func (secretText) String() string       { return "[redacted]" }
func (secretText) GoString() string     { return "[redacted]" }
func (secretText) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// ErrHostChanged is wrapped by Apply's error when the host is no longer as it
// was when the plan was made.
var ErrHostChanged = errors.New("host changed since the plan was made")

// exitChanged is the status of a script whose guard found something else than
// the plan had seen. It is no status of sh, systemctl, apt or useradd.
const exitChanged = 87

// applyHead gives the scripts of a step their helpers. look_at prints what
// stands at a path, as guard() in Go writes it.
const applyHead = scriptHead + `set -eu
die() { printf '%s\n' "$*" >&2; exit 1; }
look_at() {
	if [ -L "$1" ]; then printf 'link %s' "$(readlink -- "$1")"
	elif [ -f "$1" ]; then set -- $(sha256sum <"$1"); printf 'file %s' "$1"
	elif [ -d "$1" ]; then printf directory
	elif [ -e "$1" ]; then printf other
	else printf absent; fi
}
expect() {
	[ "$(look_at "$1")" = "$2" ] || { printf '%s is not as the plan saw it\n' "$1" >&2; exit 87; }
}
pending=` + pendingDir + `
`

// guard is the shell line that stops a script when path has changed.
func guard(path string, p *pathState) string {
	seen := "absent"
	if p != nil {
		seen = p.typ
		switch p.typ {
		case "file":
			seen += " " + p.sha256
		case "link":
			seen += " " + p.target
		}
	}
	return "expect " + quote(path) + " " + quote(seen) + "\n"
}

// scriptOp runs a script as root.
type scriptOp struct {
	script  secretText
	timeout time.Duration
}

func (o *scriptOp) apply(ctx context.Context, s *session) error {
	return runScript(ctx, s.host, string(o.script), o.timeout)
}

func runScript(ctx context.Context, h Host, script string, timeout time.Duration) error {
	res, err := h.Run(ctx, Command{Script: applyHead + script, Timeout: timeout})
	if err != nil {
		return err
	}
	switch res.ExitCode {
	case 0:
		return nil
	case exitChanged:
		return fmt.Errorf("%w: %s", ErrHostChanged, tail(res.Stderr, 1000))
	}
	said := tail(res.Stderr, 2000)
	if said == "" {
		said = tail(res.Stdout, 2000)
	}
	return fmt.Errorf("exit status %d: %s", res.ExitCode, said)
}

// uploadOp sends a whole file; for what is too large or too binary for a
// script. It has either content or the name of a local file.
type uploadOp struct {
	upload  Upload
	source  string
	content []byte
}

func (o *uploadOp) apply(ctx context.Context, s *session) error {
	u := o.upload
	u.Content = io.Reader(bytes.NewReader(o.content))
	if o.source != "" {
		f, err := os.Open(o.source)
		if err != nil {
			return fmt.Errorf("open source: %w", err)
		}
		defer func() { _ = f.Close() }() // only read from
		u.Content = f
	}
	return s.host.Put(ctx, u)
}
