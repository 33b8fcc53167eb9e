package hostcfg

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Family is a group of distributions that share a package manager and names.
type Family string

// The families of the table. An unknown distribution has family "".
const (
	Debian Family = "debian"
	Fedora Family = "fedora"
	Alpine Family = "alpine"
	Arch   Family = "arch"
	SUSE   Family = "suse"
)

// distro is a row of the table: everything that differs by family.
type distro struct {
	family  Family
	ids     []string          // ID or ID_LIKE of os-release(5)
	manager string            // the package manager's command
	query   string            // shell: print "name version" of those of "$@" that are installed
	install string            // shell: install "$@", never asking; fails when one is not found
	refresh string            // shell: fetch the package lists
	stale   string            // shell: true when the lists are missing or older than a day
	names   map[string]string // Debian's package name → this family's; "" is in the base system, or comes with the others
	// since are packages that not every release has, nor needs: Debian's name →
	// ID of os-release(5) → the first VERSION_ID with it.
	since map[string]map[string]int
}

// distros is the one table of distributions. Debian 12 and 13 are tested on
// real hosts, the others against facts written down from their documentation and played package managers.
var distros = []distro{
	{
		family: Debian, ids: []string{"debian", "ubuntu", "raspbian"}, manager: "apt",
		query: `dpkg-query -W -f='${Package} ${Version} ${db:Status-Abbrev}\n' "$@" 2>/dev/null |
	while read -r n v s; do case $s in [ih]i*) printf '%s %s\n' "$n" "$v" ;; esac; done`,
		install: `export DEBIAN_FRONTEND=noninteractive
for f in /var/lib/dpkg/updates/*; do [ ! -e "$f" ] || { dpkg --configure -a --force-confold; break; }; done
apt-get -y -q --no-install-recommends -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold install "$@"`,
		// DPkg::Lock::Timeout does not cover the lock of the lists, which apt-daily
		// holds in the first minutes of many a fresh host.
		refresh: `n=0
until said=$(apt-get -q update 2>&1); do
	n=$((n + 1))
	case $said in *'Could not get lock'*) [ $n -gt 150 ] || { sleep 2; continue; } ;; esac
	printf '%s\n' "$said"; return 1
done`,
		// The lists keep the server's time stamps, so the directories tell when apt last looked.
		stale: `[ -z "$(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' 2>/dev/null | head -n 1)" ] ||
	[ -z "$(find /var/lib/apt/lists /var/lib/apt/lists/partial -maxdepth 0 -mtime -1 2>/dev/null)" ]`,
		since: map[string]map[string]int{"passt": {"debian": 13, "raspbian": 13, "ubuntu": 25}},
	},
	{
		family: Fedora, ids: []string{"fedora", "rhel", "centos"}, manager: "dnf",
		query:   rpmQuery,
		install: `dnf -y -q --setopt=install_weak_deps=False install "$@"`,
		refresh: `dnf -y -q makecache`,
		stale:   `false`, // dnf refreshes by itself (metadata_expire)
		names:   map[string]string{"uidmap": "shadow-utils", "dbus-user-session": "", "ca-certificates": "ca-certificates", "passt": ""},
	},
	{
		family: Alpine, ids: []string{"alpine"}, manager: "apk",
		query:   `for n in "$@"; do apk info -e -v "$n" 2>/dev/null | while read -r v; do printf '%s %s\n' "$n" "${v#"$n"-}"; done; done`,
		install: `apk add -q --no-interactive "$@"`,
		refresh: `apk update -q`,
		stale:   `[ -z "$(find /var/cache/apk /etc/apk/cache -name 'APKINDEX*' -mtime -1 2>/dev/null | head -n 1)" ]`,
		names:   map[string]string{"uidmap": "shadow-subids", "dbus-user-session": "dbus", "passt": ""},
	},
	{
		family: Arch, ids: []string{"arch", "archarm"}, manager: "pacman",
		query:   `pacman -Q "$@" 2>/dev/null`,
		install: `pacman -S --noconfirm --needed -q "$@"`,
		refresh: `pacman -Sy --noconfirm -q`,
		stale:   `[ -z "$(find /var/lib/pacman/sync -name '*.db' 2>/dev/null | head -n 1)" ]`, // a refresh without an upgrade is a partial upgrade: only when there is no list
		names:   map[string]string{"uidmap": "", "dbus-user-session": "", "passt": ""},
	},
	{
		family: SUSE, ids: []string{"opensuse", "suse", "sles"}, manager: "zypper",
		query:   rpmQuery,
		install: `zypper --non-interactive --quiet install --no-recommends --auto-agree-with-licenses "$@"`,
		refresh: `zypper --non-interactive --quiet refresh`,
		stale:   `false`, // zypper refreshes by itself (autorefresh)
		names:   map[string]string{"uidmap": "shadow", "dbus-user-session": "dbus-1", "passt": ""},
	},
}

const rpmQuery = `rpm -q --qf '%{NAME} %{VERSION}-%{RELEASE}\n' "$@" 2>/dev/null | while read -r n v rest; do [ -n "$rest" ] || printf '%s %s\n' "$n" "$v"; done`

// managerCases are the table's rows as patterns of a shell case.
func managerCases() string {
	var b strings.Builder
	for _, d := range distros {
		fmt.Fprintf(&b, "*%s*) pm=%s ;;\n", strings.Join(d.ids, "*|*"), d.manager)
	}
	return b.String()
}

func (d *distro) packageName(debian string) string {
	if n, ok := d.names[debian]; ok {
		return n
	}
	return debian
}

// packageNames translates Debian's names, leaving out what the base system has.
func (d *distro) packageNames(debian []string) []string {
	var names []string
	for _, n := range debian {
		if n = d.packageName(n); n != "" && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names
}

// has says whether the release has a package, by Debian's name. A release
// without a number is one to come.
func (d *distro) has(debian string, os OSRelease) bool {
	since, limited := d.since[debian]
	if !limited || os.VersionID == "" {
		return true
	}
	first, known := since[os.ID]
	major, _, _ := strings.Cut(os.VersionID, ".")
	n, err := strconv.Atoi(major)
	return known && err == nil && n >= first
}

func distroByFamily(f Family) *distro {
	for i := range distros {
		if distros[i].family == f {
			return &distros[i]
		}
	}
	return nil
}
