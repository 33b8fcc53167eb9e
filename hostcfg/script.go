package hostcfg

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
)

// pendingDir holds a marker for each unit whose files an interrupted run has
// changed without restarting it. A reboot clears it, and restarts the units.
const pendingDir = "/run/fleetctl/pending"

// maxFetch is the largest file whose content is fetched to show a diff.
const maxFetch = 1 << 20

// newMarker makes a line prefix that no file on the host can hold by accident.
func newMarker() string {
	b := make([]byte, 12)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	return "@" + hex.EncodeToString(b)
}

// scriptHead sets up what every script of this package relies on.
const scriptHead = `LC_ALL=C LANGUAGE= PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL LANGUAGE PATH
umask 022
`

// compile turns a query into one read-only script whose output readSections
// takes apart. Nearly all of it is shell built-ins or one process for all
// names of a kind: on a Pi a process costs 3 to 5 ms.
func (q *query) compile(marker string) string {
	var b strings.Builder
	b.WriteString(scriptHead)
	fmt.Fprintf(&b, "sec() { printf '\\n%s %%s\\n' \"$*\"; }\n", marker)
	b.WriteString(factsScript())
	q.compilePaths(&b)
	q.compileAccounts(&b)
	q.compilePackages(&b)
	q.compileUnits(&b)
	for _, k := range q.names(keySysctl) {
		p := quote("/proc/sys/" + sysctlPath(k))
		fmt.Fprintf(&b, "if [ -r %s ]; then sec sysctl %s; cat %s; fi\n", p, quote(k), p)
	}
	for _, n := range q.names(keyPending) {
		fmt.Fprintf(&b, "[ ! -e %s ] || sec pending %s\n", quote(pendingDir+"/"+n), quote(n))
	}
	b.WriteString("sec end\n")
	return b.String()
}

func (q *query) compilePaths(b *strings.Builder) {
	paths := q.names(keyPath)
	if len(paths) > 0 {
		// Existing paths only: stat and sha256sum then have nothing to complain about.
		fmt.Fprintf(b, "set --\nfor p in %s; do [ ! -e \"$p\" ] && [ ! -L \"$p\" ] || set -- \"$@\" \"$p\"; done\n", quoteAll(paths))
		b.WriteString(`sec stat
if [ $# -gt 0 ]; then stat -c '%f %s %u %g %U %G %n' -- "$@"; fi
for p; do [ ! -L "$p" ] || { sec link "$p"; readlink -- "$p"; }; done
n=$#; for p; do [ ! -f "$p" ] || [ -L "$p" ] || set -- "$@" "$p"; done; shift "$n"
sums=; if [ $# -gt 0 ]; then sums=$(sha256sum -- "$@"); fi
sec sha256; printf '%s\n' "$sums"
`)
		q.compileContent(b)
	}
	for _, t := range q.names(keyTree) {
		fmt.Fprintf(b, "[ ! -d %[1]s ] || { sec tree %[1]s; find %[1]s -xdev | head -n 1000; }\n", quote(t))
	}
}

// compileContent fetches the files whose hash is not the wanted one.
func (q *query) compileContent(b *strings.Builder) {
	var same, want []string
	for _, p := range q.names(keyPath) {
		unless, ok := q.content[p]
		if !ok || unless == noContent {
			continue
		}
		want = append(want, quote(p))
		if unless != "" {
			same = append(same, quote(unless+"  "+p))
		}
	}
	if len(want) == 0 {
		return
	}
	if len(same) == 0 {
		same = []string{"-"}
	}
	fmt.Fprintf(b, `printf '%%s\n' "$sums" | while IFS= read -r l; do
	case $l in %s) continue ;; esac
	p=${l#*  }
	case $p in %s) if [ "$(wc -c <"$p")" -le %d ]; then sec content "$p"; cat -- "$p"; fi ;; esac
done
`, strings.Join(same, "|"), strings.Join(want, "|"), maxFetch)
}

func (q *query) compileAccounts(b *strings.Builder) {
	if users := q.names(keyPasswd); len(users) > 0 {
		fmt.Fprintf(b, "sec passwd; getent passwd %s\n", quoteAll(users))
		// "user : group group": id prints names only.
		fmt.Fprintf(b, "for u in %s; do g=$(id -nG \"$u\" 2>/dev/null) && { sec groups \"$u\"; printf '%%s\\n' \"$g\"; }; done\n", quoteAll(users))
	}
	if groups := q.names(keyGroup); len(groups) > 0 {
		fmt.Fprintf(b, "sec group; getent group %s\n", quoteAll(groups))
	}
	if len(q.names(keySubIDs)) > 0 {
		b.WriteString("[ ! -f /etc/subuid ] || { sec subuid; cat /etc/subuid; }\n")
		b.WriteString("[ ! -f /etc/subgid ] || { sec subgid; cat /etc/subgid; }\n")
	}
	for _, u := range q.names(keyLinger) {
		fmt.Fprintf(b, "[ ! -e %s ] || sec linger %s\n", quote("/var/lib/systemd/linger/"+u), quote(u))
	}
}

func (q *query) compilePackages(b *strings.Builder) {
	names := q.names(keyPackage)
	if len(names) == 0 {
		return
	}
	b.WriteString("sec packages\ncase $pm in\n")
	for i := range distros {
		d := &distros[i]
		fmt.Fprintf(b, "%s) set -- %s\n[ $# -eq 0 ] || {\n%s\n} ;;\n", d.manager, quoteAll(d.packageNames(names)), d.query)
	}
	b.WriteString("esac\n")
}

// unitProperties are what systemctl show is asked for; Id comes first.
const unitProperties = "Id,Names,LoadState,ActiveState,SubState,UnitFileState,NeedDaemonReload"

// userManagerTimeout is how many seconds a probe waits for the systemd of a
// user that is starting.
const userManagerTimeout = 60

func (q *query) compileUnits(b *strings.Builder) {
	if units := q.names(keyUnit); len(units) > 0 {
		fmt.Fprintf(b, "if [ -d /run/systemd/system ]; then sec units; systemctl show -p %s -- %s; fi\n", unitProperties, quoteAll(units))
	}
	byUser := map[string][]string{}
	var users []string
	for _, n := range q.names(keyUserUnit) {
		user, unit, _ := strings.Cut(n, "/")
		if byUser[user] == nil {
			users = append(users, user)
		}
		byUser[user] = append(byUser[user], unit)
	}
	for _, u := range users {
		// A manager that is still starting, as after a run that was cut when
		// it had just enabled lingering, would be found without units, or with
		// units that are about to run. Starting what starts waits for its end.
		fmt.Fprintf(b, `uid=$(id -u -- %s 2>/dev/null) && m=user@$uid.service && case $(systemctl show -p ActiveState,Job -- "$m" 2>/dev/null) in
*ActiveState=activating*|*Job=[1-9]*) timeout %d systemctl start -- "$m" 2>/dev/null ;;
esac
[ -n "$uid" ] && [ -S "/run/user/$uid/bus" ] && { sec user-units %s
`, quote(u), userManagerTimeout, quote(u))
		fmt.Fprintf(b, "%s systemctl --user show -p %s -- %s; }\n", asUser(u), unitProperties, quoteAll(byUser[u]))
	}
}

// asUser is the prefix that runs a command as a user with the address of the
// user's manager; $uid holds the numeric id. runuser asks no password, starts
// no login session and, unlike systemctl -M, needs no machined.
func asUser(user string) string {
	return "runuser -u " + quote(user) + ` -- env XDG_RUNTIME_DIR="/run/user/$uid" DBUS_SESSION_BUS_ADDRESS="unix:path=/run/user/$uid/bus"`
}

// noContent as a wanted hash says that the content is never fetched.
const noContent = "never"

// readSections takes a probe's output apart: header line → body. Output that
// does not reach its last section is an error.
func readSections(out []byte, marker string) (map[string]string, error) {
	sections := map[string]string{}
	parts := strings.Split(string(out), "\n"+marker+" ")
	for _, part := range parts[1:] {
		head, body, _ := strings.Cut(part, "\n")
		sections[head] = body
	}
	if _, complete := sections["end"]; !complete {
		return nil, fmt.Errorf("output of the probe ends early, after %d sections: %q", len(parts)-1, tail(out, 200))
	}
	return sections, nil
}

// tail returns the last n bytes of b for an error message.
func tail(b []byte, n int) string {
	s := strings.TrimSpace(string(b))
	if len(s) > n {
		s = "…" + s[len(s)-n:]
	}
	return s
}
