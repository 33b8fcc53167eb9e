package hostcfg

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nationtech/fleetctl/internal/hint"
)

// Absent means that nothing is at Path. A directory is removed only when it is
// empty, or with Recursive; then the plan lists what goes.
type Absent struct {
	Path      string
	Recursive bool
}

// ID is "absent:PATH".
func (a Absent) ID() string { return "absent:" + a.Path }

func (a Absent) claims() []claim { return []claim{{path: a.Path}} }

// shared are directories that belong to the system: never removed, even when
// somebody declares them absent.
var shared = []string{
	"/bin", "/boot", "/boot/firmware", "/dev", "/etc", "/home", "/lib", "/lib32", "/lib64", "/media", "/mnt", "/opt", "/proc",
	"/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/usr/bin", "/usr/include", "/usr/lib", "/usr/libexec", "/usr/local",
	"/usr/local/bin", "/usr/local/lib", "/usr/local/libexec", "/usr/local/sbin", "/usr/local/share", "/usr/sbin", "/usr/share",
	"/etc/systemd", "/etc/systemd/system", "/etc/systemd/user", "/var", "/var/cache", "/var/lib", "/var/log", "/var/spool", "/var/tmp",
}

func (a Absent) prepare() (Resource, error) {
	err := checkPath(a.Path)
	if slices.Contains(shared, a.Path) {
		err = errors.Join(err, fmt.Errorf("%s is a directory of the system", a.Path))
	}
	return a, err
}

func (a Absent) probe(q *query) {
	q.file(a.Path, "")
	q.add(keyTree, a.Path)
}

func (a Absent) plan(s *state, st *Step) error {
	st.sweep(s, a.Path)
	cur := s.paths[a.Path]
	if cur == nil {
		return nil
	}
	below := slices.DeleteFunc(slices.Clone(s.trees[a.Path]), func(p string) bool { return p == a.Path })
	switch {
	case cur.typ != "directory":
		st.change("remove the %s %s", cur.typ, a.Path)
		if cur.fetched && isText(cur.content) {
			st.addDiff(unifiedDiff(a.Path, append([]byte{}, cur.content...), nil))
		}
		st.run(guard(a.Path, cur) + "rm -f -- " + quote(a.Path) + "\n")
	case len(below) == 0:
		st.change("remove the empty directory %s", a.Path)
		st.run(guard(a.Path, cur) + "rmdir -- " + quote(a.Path) + "\n")
	case !a.Recursive:
		return hint.New(fmt.Sprintf("%s is not empty: it holds %s", a.Path, shorten(below, 3)), "empty it on the host, or declare its absence recursive")
	default:
		st.change("remove the directory %s and the %d entries below it: %s", a.Path, len(below), shorten(below, 5))
		// --one-file-system is GNU's; busybox has no rm that stops at mounts.
		st.run(guard(a.Path, cur) + fmt.Sprintf(`d=%s
while read -r _ mounted _; do
	case $mounted in "$d"|"$d"/*) die "$mounted is a mount point: unmount it first" ;; esac
done </proc/mounts
rm -rf -- "$d"
`, quote(a.Path)))
	}
	return nil
}

func shorten(names []string, n int) string {
	if len(names) <= n {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:n], ", ") + ", …"
}
