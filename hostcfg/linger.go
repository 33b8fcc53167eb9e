package hostcfg

import (
	"fmt"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
)

// Linger keeps a user's systemd running without a login, or no longer does.
// Applied, it waits until the user's bus answers.
type Linger struct {
	User   string
	Absent bool
}

// ID is "linger:USER".
func (l Linger) ID() string { return "linger:" + l.User }

func (l Linger) prepare() (Resource, error) { return l, checkAccount("user", l.User) }

func (l Linger) probe(q *query) {
	q.add(keyLinger, l.User)
	q.add(keyPasswd, l.User)
}

func (l Linger) plan(s *state, st *Step) error {
	on := s.linger[l.User]
	if l.Absent {
		if on {
			st.change("disable lingering of %s", l.User)
			// After userdel there is no user to ask loginctl for.
			st.run(fmt.Sprintf("loginctl disable-linger %s 2>/dev/null || rm -f -- %s\n", quote(l.User), quote("/var/lib/systemd/linger/"+l.User)))
		}
		return nil
	}
	if err := needSystemd(s.facts); err != nil {
		return err
	}
	if on {
		return nil
	}
	st.change("enable lingering of %s, and wait for its systemd", l.User)
	st.runFor(fmt.Sprintf(`u=%s
loginctl enable-linger "$u"
uid=$(id -u -- "$u")
n=0
until [ -S "/run/user/$uid/bus" ]; do
	n=$((n + 1))
	[ $n -le 600 ] || { systemctl --no-pager status "user@$uid.service" >&2; die "the bus of $u did not appear within 60 s (is dbus-user-session installed?)"; }
	sleep 0.1
done
`, quote(l.User)), 2*time.Minute)
	return nil
}

// needSystemd refuses hosts whose init is another.
func needSystemd(f *Facts) error {
	if f.Systemd() {
		return nil
	}
	return hint.New(fmt.Sprintf("%s runs %s, not systemd; units and lingering need systemd", orDash(f.OS.PrettyName), orDash(f.Init)),
		"use a distribution with systemd, such as Debian or Raspberry Pi OS")
}
