package hostcfg

import (
	"fmt"

	"github.com/nationtech/fleetctl/internal/hint"
)

// Group exists, or does not.
type Group struct {
	Name   string
	GID    int  // 0 leaves the choice to the host
	System bool // chosen from the system range
	Absent bool
}

// ID is "group:NAME".
func (g Group) ID() string { return "group:" + g.Name }

func (g Group) prepare() (Resource, error) { return g, checkAccount("group", g.Name) }

func (g Group) probe(q *query) { q.add(keyGroup, g.Name) }

func (g Group) plan(s *state, st *Step) error {
	cur := s.groups[g.Name]
	switch {
	case g.Absent:
		if cur != nil {
			st.change("remove the group %s", g.Name)
			// userdel has removed it already when it was a user's own group.
			st.run(fmt.Sprintf("getent group %[1]s >/dev/null || exit 0\ngroupdel -- %[1]s\n", quote(g.Name)))
		}
	case cur == nil:
		st.change("create the group %s", g.Name)
		flags := ""
		if g.System {
			flags += " -r"
		}
		if g.GID != 0 {
			flags += fmt.Sprintf(" -g %d", g.GID)
		}
		st.run(fmt.Sprintf("%sgroupadd%s -- %s\n", needs("groupadd"), flags, quote(g.Name)))
	case g.GID != 0 && cur.gid != g.GID:
		return hint.New(fmt.Sprintf("group %s has gid %d, not %d; files would lose their group", g.Name, cur.gid, g.GID),
			fmt.Sprintf("change it by hand: groupmod -g %d %s, then chgrp its files", g.GID, g.Name))
	}
	return nil
}

// needs is a shell line that refuses a host without a command of the shadow
// suite (Alpine's default tools cannot do what we need).
func needs(command string) string {
	return fmt.Sprintf("command -v %[1]s >/dev/null 2>&1 || die '%[1]s is missing: install the shadow package first'\n", command)
}
