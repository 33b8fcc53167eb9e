package hostcfg

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/nationtech/fleetctl/internal/hint"
)

// Directory exists with this owner and mode. Its parent has to exist or be
// declared before it.
type Directory struct {
	Path  string
	Owner string      // login name or uid; "" is root
	Group string      // group name or gid; "" is root
	Mode  fs.FileMode // 0 is 0755
}

// ID is "directory:PATH".
func (d Directory) ID() string { return "directory:" + d.Path }

func (d Directory) claims() []claim { return []claim{{path: d.Path}} }

func (d Directory) prepare() (Resource, error) {
	if d.Mode == 0 {
		d.Mode = 0o755
	}
	err := errors.Join(checkPath(d.Path), checkOwner(&d.Owner, &d.Group), checkMode(&d.Mode))
	return d, err
}

func (d Directory) probe(q *query) { q.add(keyPath, d.Path) }

func (d Directory) plan(s *state, st *Step) error {
	cur := s.paths[d.Path]
	owner := quote(d.Owner + ":" + d.Group)
	if cur == nil {
		st.change("create the directory %s, %s %s:%s", d.Path, octal(d.Mode), d.Owner, d.Group)
		// Made closed and opened last: nobody enters before the owner is right.
		st.run(guard(d.Path, cur) + fmt.Sprintf("mkdir -m 0700 -- %[1]s\n", quote(d.Path)) + d.enter() +
			fmt.Sprintf("chown -- %s .\nchmod -- %s .\n", owner, octal(d.Mode)))
		return nil
	}
	if cur.typ != "directory" {
		return hint.New(fmt.Sprintf("%s is a %s, not a directory", d.Path, cur.typ), "move it away on the host, then run again")
	}
	script := ""
	if !isAccount(d.Owner, cur.owner, cur.uid) || !isAccount(d.Group, cur.group, cur.gid) {
		st.change("give %s to %s:%s (was %s:%s)", d.Path, d.Owner, d.Group, cur.owner, cur.group)
		script += fmt.Sprintf("chown -- %s .\n", owner)
	}
	if octal(cur.mode) != octal(d.Mode) {
		st.change("set the mode of %s to %s (was %s)", d.Path, octal(d.Mode), octal(cur.mode))
		script += fmt.Sprintf("chmod -- %s .\n", octal(d.Mode))
	}
	if script != "" {
		st.run(guard(d.Path, cur) + d.enter() + script)
	}
	return nil
}

// enter makes the directory the working directory, unless it is a link by
// now: what follows then cannot be redirected.
func (d Directory) enter() string {
	return fmt.Sprintf("cd -- %[1]s\n[ ! -L %[1]s ] && [ . -ef %[1]s ] || die %[1]s' is a link'\n", quote(d.Path))
}
