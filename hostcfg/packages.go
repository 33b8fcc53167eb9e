package hostcfg

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
)

// Packages are installed, in any version. Nothing is upgraded or removed.
type Packages struct {
	Name  string   // names the set in its ID; "" is "base"
	Names []string // Debian's names; the table of distributions translates them, and knows which a release does without
}

// ID is "packages:NAME".
func (p Packages) ID() string {
	if p.Name == "" {
		return "packages:base"
	}
	return "packages:" + p.Name
}

func (p Packages) prepare() (Resource, error) {
	if len(p.Names) == 0 {
		return nil, errors.New("no package is named")
	}
	var faults []error
	for _, n := range p.Names {
		faults = append(faults, checkWord("package", n, "+-._"))
	}
	return p, errors.Join(faults...)
}

func (p Packages) probe(q *query) {
	for _, n := range p.Names {
		q.add(keyPackage, n)
	}
}

func (p Packages) plan(s *state, st *Step) error {
	d := distroByFamily(s.facts.Family)
	if d == nil || d.manager != s.facts.PackageManager {
		return hint.New(fmt.Sprintf("no way is known to install packages on %q (package manager %q)", s.facts.OS.PrettyName, s.facts.PackageManager),
			"supported are Debian, Ubuntu, Raspberry Pi OS, Fedora, RHEL, Alpine, Arch and openSUSE")
	}
	wanted := slices.DeleteFunc(slices.Clone(p.Names), func(n string) bool { return !d.has(n, s.facts.OS) })
	var missing []string
	for _, n := range d.packageNames(wanted) {
		if s.packages[n] == "" {
			missing = append(missing, n)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	st.change("install %s", strings.Join(missing, ", "))
	st.runFor(d.installScript(missing), 30*time.Minute)
	return nil
}

// installScript refreshes the lists only when they are stale, or when the
// first attempt fails (a package may be newer than the lists). A refresh that
// fails is no end: one of the host's repositories may be gone, and not ours.
func (d *distro) installScript(names []string) string {
	return fmt.Sprintf(`set -- %s
refresh() {
%s
}
install() {
%s
}
fresh=no
if %s; then refresh >&2 || :; fresh=yes; fi
if install "$@" </dev/null >&2; then exit 0; else status=$?; fi
[ "$fresh" = no ] || exit "$status"
refresh >&2 || :
install "$@" </dev/null >&2
`, quoteAll(names), d.refresh, d.install, d.stale)
}
