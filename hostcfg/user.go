package hostcfg

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
)

// User is a local account with a group of the same name, or its absence.
// Empty fields are not compared on an account that exists.
type User struct {
	Name    string
	UID     int    // 0 leaves the choice to the host
	Group   string // primary group, which has to exist; "" is one of the user's name
	System  bool   // uid from the system range; never expires
	Comment string
	Home    string   // created with the account
	Shell   string   // "" is /usr/sbin/nologin for a new account
	Groups  []string // supplementary; others that the user has are left alone
	// SubIDs gives the user a range of 65,536 subordinate uids and gids that
	// no other user's range overlaps, as rootless containers need.
	SubIDs bool
	// Absent stops everything that the user runs and removes the account
	// with its subordinate ids.
	Absent     bool
	RemoveHome bool // with Absent
}

// ID is "user:NAME".
func (u User) ID() string { return "user:" + u.Name }

func (u User) prepare() (Resource, error) {
	faults := []error{checkAccount("user", u.Name)}
	if u.Name == "root" {
		faults = append(faults, errors.New("root cannot be managed"))
	}
	if u.Group != "" {
		faults = append(faults, checkAccount("group", u.Group))
	}
	for _, g := range u.Groups {
		faults = append(faults, checkAccount("group", g))
	}
	for _, p := range []string{u.Home, u.Shell} {
		if p != "" {
			faults = append(faults, checkPath(p))
		}
	}
	if strings.ContainsAny(u.Comment, ":\n") {
		faults = append(faults, fmt.Errorf("comment %q holds a colon or a line break", u.Comment))
	}
	return u, errors.Join(faults...)
}

func (u User) probe(q *query) {
	q.add(keyPasswd, u.Name)
	if u.SubIDs || u.Absent {
		q.add(keySubIDs, "")
	}
	if u.Group != "" {
		q.add(keyGroup, u.Group)
	}
	if u.Absent {
		q.add(keyLinger, u.Name)
	} else if u.Home != "" {
		q.add(keyPath, u.Home)
	}
}

func (u User) plan(s *state, st *Step) error {
	cur := s.users[u.Name]
	if u.Absent {
		u.planAbsent(s, cur, st)
		return nil
	}
	if cur == nil {
		u.planCreate(st)
	} else if err := u.planModify(s, cur, st); err != nil {
		return err
	}
	if u.SubIDs {
		return u.planSubIDs(s, cur, st)
	}
	return nil
}

func (u User) planCreate(st *Step) {
	shell := u.Shell
	if shell == "" {
		shell = "/usr/sbin/nologin"
	}
	// Subordinate ids are ours to give: useradd's own choice is not in the plan.
	args := []string{"-K", "SUB_UID_COUNT=0", "-K", "SUB_GID_COUNT=0", "-s", shell}
	text := "create the user " + u.Name
	if u.System {
		args = append(args, "-r")
		text = "create the system user " + u.Name
	}
	if u.UID != 0 {
		args = append(args, "-u", fmt.Sprint(u.UID))
		text += fmt.Sprintf(", uid %d", u.UID)
	}
	if u.Group != "" {
		args = append(args, "-g", u.Group)
		text += ", group " + u.Group
	} else {
		args = append(args, "-U")
	}
	if u.Comment != "" {
		args = append(args, "-c", u.Comment)
	}
	if u.Home != "" {
		args = append(args, "-d", u.Home, "-m")
		text += ", home " + u.Home
	} else {
		args = append(args, "-M")
	}
	if len(u.Groups) > 0 {
		args = append(args, "-G", strings.Join(u.Groups, ","))
		text += ", in " + strings.Join(u.Groups, ", ")
	}
	st.change("%s, shell %s", text, shell)
	st.run(needs("useradd") + fmt.Sprintf("useradd %s -- %s\n", quoteAll(args), quote(u.Name)))
}

func (u User) planModify(s *state, cur *userState, st *Step) error {
	if u.UID != 0 && cur.uid != u.UID {
		return hint.New(fmt.Sprintf("user %s has uid %d, not %d; files would lose their owner", u.Name, cur.uid, u.UID),
			"remove the user first, or declare the uid that it has")
	}
	var args []string
	if u.Group != "" && (s.groups[u.Group] == nil || s.groups[u.Group].gid != cur.gid) {
		st.change("make %s the primary group of %s", u.Group, u.Name)
		args = append(args, "-g", u.Group)
	}
	if u.Comment != "" && cur.comment != u.Comment {
		st.change("set the comment of %s to %q (was %q)", u.Name, u.Comment, cur.comment)
		args = append(args, "-c", u.Comment)
	}
	if u.Home != "" && cur.home != u.Home {
		st.change("set the home of %s to %s (was %s)", u.Name, u.Home, cur.home)
		args = append(args, "-d", u.Home)
	}
	if u.Shell != "" && cur.shell != u.Shell {
		st.change("set the shell of %s to %s (was %s)", u.Name, u.Shell, cur.shell)
		args = append(args, "-s", u.Shell)
	}
	var missing []string
	for _, g := range u.Groups {
		if !slices.Contains(cur.groups, g) {
			missing = append(missing, g)
		}
	}
	if len(missing) > 0 {
		st.change("add %s to %s", u.Name, strings.Join(missing, ", "))
		args = append(args, "-a", "-G", strings.Join(missing, ","))
	}
	// A useradd that was cut off leaves an account without its group, and perhaps
	// without its line in shadow, which is written in between,
	if len(cur.groups) == 0 && u.Group == "" {
		st.change("create the group %s, gid %d, that %s lacks", u.Name, cur.gid, u.Name)
		st.run(needs("groupadd") + fmt.Sprintf("pwconv\ngroupadd -g %d -- %s\n", cur.gid, quote(u.Name)))
	}
	// or without its home.
	if u.Home != "" && s.paths[u.Home] == nil {
		st.change("create the home %s", u.Home)
		st.run(fmt.Sprintf("mkdir -m 0700 -- %[1]s\nchown -- %[2]s %[1]s\n", quote(u.Home), quote(fmt.Sprintf("%d:%d", cur.uid, cur.gid))))
	}
	if len(args) > 0 {
		st.run(needs("usermod") + fmt.Sprintf("usermod %s -- %s\n", quoteAll(args), quote(u.Name)))
	}
	return nil
}

func (u User) planAbsent(s *state, cur *userState, st *Step) {
	if cur == nil {
		return
	}
	text, flags := "remove the user "+u.Name+", ending all that it runs", ""
	if u.RemoveHome {
		text += ", with " + cur.home
		flags = "-r "
	}
	st.change("%s", text)
	delete(s.users, u.Name)
	s.subUIDs = slices.DeleteFunc(s.subUIDs, func(r subRange) bool { return r.user == u.Name })
	s.subGIDs = slices.DeleteFunc(s.subGIDs, func(r subRange) bool { return r.user == u.Name })
	st.runFor(fmt.Sprintf(`u=%[1]s uid=%[2]d
[ "$(id -u -- "$u")" = "$uid" ] || exit %[3]d
if [ -d /run/systemd/system ]; then
	loginctl disable-linger "$u" 2>/dev/null || rm -f -- "/var/lib/systemd/linger/$u"
	systemctl stop "user@$uid.service" "user-$uid.slice" 2>/dev/null || :
fi
# What systemd does not know of: processes started with su, or in a container.
mine() { for p in /proc/[0-9]*; do [ "$(stat -c %%u "$p" 2>/dev/null)" != "$uid" ] || printf '%%s ' "${p#/proc/}"; done; }
for signal in TERM TERM TERM TERM TERM KILL KILL KILL; do
	pids=$(mine); [ -n "$pids" ] || break
	kill -s $signal $pids 2>/dev/null || :
	sleep 1
done
# 12: the home or mail spool could not be removed, usually because there is none.
userdel %[4]s-- "$u" || [ $? -eq 12 ]
! getent passwd "$u" >/dev/null || die "user $u is still there"
`, quote(u.Name), cur.uid, exitChanged, flags), 3*time.Minute)
}
