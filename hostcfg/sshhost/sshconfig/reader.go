package sshconfig

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	maxDepth = 16        // of Includes, as in OpenSSH
	maxLine  = 256 << 10 // bytes
)

// reader goes through files once, in order.
type reader struct {
	ctx        context.Context
	values     *Values
	host       string // what Host lines are compared with
	final      bool   // the second pass
	wantsFinal bool   // a Match final was seen
}

func (r *reader) readAll(files []File) error {
	for _, f := range files {
		if err := r.file(f, 0, true, &[]bool{true}[0]); err != nil {
			return err
		}
	}
	return nil
}

// file reads one file. enabled is false inside a block that did not match:
// then no Host or Match of the file can. active says whether lines count, and
// is changed by Host and Match.
func (r *reader) file(f File, depth int, enabled bool, active *bool) error {
	in, err := os.Open(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("SSH configuration: %w", err)
	}
	defer in.Close()
	if !f.System {
		if err := checkOwner(in); err != nil {
			return fmt.Errorf("SSH configuration %s: %w", f.Path, err)
		}
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	for n := 1; lines.Scan(); n++ {
		if err := r.line(f, lines.Text(), depth, enabled, active); err != nil {
			return fmt.Errorf("%s line %d: %w", f.Path, n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("SSH configuration %s: %w", f.Path, err)
	}
	return nil
}

func (r *reader) line(f File, text string, depth int, enabled bool, active *bool) error {
	name, rest := keyword(text)
	if name == "" || name[0] == '#' {
		return nil
	}
	name = strings.ToLower(name)
	if s, ok := synonyms[name]; ok {
		name = s
	}
	switch {
	case name == "match":
		ok, err := r.match(rest)
		if err != nil {
			return err
		}
		*active = enabled && ok
		return nil
	case verbatim[name]:
		if rest == "" {
			return fmt.Errorf("%s has no value", name)
		}
		if *active {
			r.setVerbatim(name, rest)
		}
		return nil
	}
	args, err := words(rest)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		return fmt.Errorf("%s has no value", name)
	}
	switch name {
	case "host":
		*active = enabled && matchesHostLine(r.host, args)
	case "include":
		return r.include(f, args, depth, *active)
	default:
		if *active {
			return r.set(name, args)
		}
	}
	return nil
}

func (r *reader) set(name string, args []string) error {
	values := r.values.values
	if name == "port" {
		if n, err := strconv.ParseUint(args[0], 10, 16); err != nil || n == 0 {
			return fmt.Errorf("port %q is not a number from 1 to 65535", args[0])
		}
	}
	if accumulating[name] {
		if !slices.Contains(values[name], args[0]) {
			values[name] = append(values[name], args[0])
		}
		return nil
	}
	if _, ok := values[name]; !ok {
		values[name] = args
	}
	return nil
}

// setVerbatim sets a value that is not split. Of ProxyCommand and ProxyJump
// the first wins and the other counts no more.
func (r *reader) setVerbatim(name, value string) {
	values := r.values.values
	switch name {
	case "proxyjump":
		args, err := words(value)
		if err != nil || len(args) == 0 {
			return
		}
		value = args[0]
		if _, ok := values["proxycommand"]; ok {
			return
		}
	case "proxycommand":
		if _, ok := values["proxyjump"]; ok {
			return
		}
	}
	if _, ok := values[name]; !ok {
		values[name] = []string{value}
	}
}

// include reads other files in place. What they make of active ends with them.
func (r *reader) include(from File, args []string, depth int, active bool) error {
	if depth == maxDepth {
		return fmt.Errorf("Include goes more than %d files deep", maxDepth)
	}
	for _, pattern := range args {
		path := r.values.local.tilde(pattern)
		if !filepath.IsAbs(path) {
			base := filepath.Join(r.values.local.Home, ".ssh")
			if from.System {
				base = "/etc/ssh"
			}
			path = filepath.Join(base, path)
		}
		found, err := filepath.Glob(path)
		if err != nil {
			return fmt.Errorf("Include %s: %w", pattern, err)
		}
		for _, name := range found {
			inner := active
			if err := r.file(File{Path: name, System: from.System}, depth+1, active, &inner); err != nil {
				return err
			}
		}
	}
	return nil
}
