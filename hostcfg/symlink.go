package hostcfg

import (
	"errors"
	"fmt"
	"strings"

	"github.com/nationtech/fleetctl/internal/hint"
)

// Symlink is a symbolic link with this target, replaced in one rename.
type Symlink struct {
	Path   string
	Target string // absolute, or relative to the link's directory
}

// ID is "symlink:PATH".
func (l Symlink) ID() string { return "symlink:" + l.Path }

func (l Symlink) claims() []claim { return []claim{{path: l.Path}} }

func (l Symlink) prepare() (Resource, error) {
	var bad error
	if l.Target == "" || strings.ContainsAny(l.Target, "\n\x00\\") {
		bad = fmt.Errorf("target %q is empty or holds a line break or a backslash", l.Target)
	}
	return l, errors.Join(checkPath(l.Path), bad)
}

func (l Symlink) probe(q *query) { q.file(l.Path, noContent) }

func (l Symlink) plan(s *state, st *Step) error {
	cur := s.paths[l.Path]
	temp := TempPath(l.Path)
	switch {
	case cur == nil:
		st.change("link %s -> %s", l.Path, l.Target)
	case cur.typ != "link":
		return hint.New(fmt.Sprintf("%s is a %s, not a link", l.Path, cur.typ), "move it away on the host, then run again")
	case cur.target != l.Target:
		st.change("link %s -> %s (was %s)", l.Path, l.Target, cur.target)
	default:
		st.sweep(s, l.Path)
		return nil
	}
	// mv without -T would move the new link into the directory that the old
	// one points to.
	st.run(guard(l.Path, cur) + fmt.Sprintf("t=%s\nrm -f -- \"$t\"\ntrap 'rm -f -- \"$t\"' EXIT\nln -s -- %s \"$t\"\nmv -fT -- \"$t\" %s\n",
		quote(temp), quote(l.Target), quote(l.Path)))
	return nil
}
