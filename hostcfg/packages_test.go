package hostcfg_test

import (
	"os"
	"strings"
	"testing"

	"github.com/nationtech/fleetctl/hostcfg"
	"github.com/nationtech/fleetctl/hostcfg/hosttest"
)

// The players keep installed packages as files in /run/pkgs and log what they
// are asked to do; their output and statuses are those of the real tools.
const (
	dpkgQueryPlayed = `shift 2 # -W -f=…
status=0
for n; do
	if [ -e "/run/pkgs/$n" ]; then echo "$n 1.0-1 ii "; elif [ "$n" = uidmap ]; then echo 'uidmap 1.0-1 rc '; else echo "dpkg-query: no packages found matching $n" >&2; status=1; fi
done
exit $status
`
	aptGetPlayed = `echo "apt-get $*" >>/run/log
mkdir -p /run/pkgs /var/lib/apt/lists
case "$*" in
*update)
	if [ "$(grep -c update /run/log)" -le "${BUSY:-1}" ]; then
		echo 'E: Could not get lock /var/lib/apt/lists/lock. It is held by process 1 (apt-get)' >&2; exit 100
	fi
	touch /var/lib/apt/lists/deb.example_dists_Packages ;;
*' install '*)
	[ "$DEBIAN_FRONTEND" = noninteractive ] || { echo 'asks a question' >&2; exit 99; }
	while [ "$1" != install ]; do shift; done; shift
	for n; do
		[ -e /var/lib/apt/lists/deb.example_dists_Packages ] || { echo "E: Unable to locate package $n" >&2; exit 100; }
		: >"/run/pkgs/$n"
	done ;;
*) exit 99 ;;
esac
`
	rpmPlayed = `[ "$1 $2" = "-q --qf" ] || exit 99
shift 3
for n; do if [ -e "/run/pkgs/$n" ]; then echo "$n 1.0-1.fc41"; else echo "package $n is not installed"; fi; done
`
	// dnf and zypper: options first, then the command.
	rpmInstallPlayed = `echo "${0##*/} $*" >>/run/log
mkdir -p /run/pkgs
install=
for a; do
	case $a in -*) ;; install) install=yes ;; *) [ -z "$install" ] || : >"/run/pkgs/$a" ;; esac
done
`
	apkPlayed = `echo "apk $*" >>/run/log
mkdir -p /run/pkgs
case $1 in
info) [ "$2 $3" = "-e -v" ] && [ -e "/run/pkgs/$4" ] && echo "$4-5.2.5-r1" ;;
update) mkdir -p /var/cache/apk; touch /var/cache/apk/APKINDEX.1234.tar.gz ;;
add) shift; for n; do case $n in -*) ;; *) : >"/run/pkgs/$n" ;; esac; done ;;
*) exit 99 ;;
esac
`
	pacmanPlayed = `echo "pacman $*" >>/run/log
mkdir -p /run/pkgs
case $1 in
-Q) shift; for n; do if [ -e "/run/pkgs/$n" ]; then echo "$n 5.2.5-1"; else echo "error: package '$n' was not found" >&2; fi; done ;;
-Sy) mkdir -p /var/lib/pacman/sync; touch /var/lib/pacman/sync/core.db ;;
-S) shift; for n; do case $n in -*) ;; *) : >"/run/pkgs/$n" ;; esac; done ;;
*) exit 99 ;;
esac
`
)

func TestPackagesOfEachFamily(t *testing.T) {
	want := []hostcfg.Resource{hostcfg.Packages{Names: []string{"podman", "uidmap"}}}
	for _, c := range []struct {
		release, after string
		play           map[string]string
	}{
		{"debian-12", `[ "$(ls /run/pkgs)" = "podman
uidmap" ]`, map[string]string{"apt-get": aptGetPlayed, "dpkg-query": dpkgQueryPlayed}},
		{"raspbian-12", `[ -e /run/pkgs/uidmap ]`, map[string]string{"apt-get": aptGetPlayed, "dpkg-query": dpkgQueryPlayed, "apt": ""}},
		{"ubuntu-24.04", `[ -e /run/pkgs/uidmap ]; ! ls /run/pkgs | grep -e -`, map[string]string{"apt-get": aptGetPlayed, "dpkg-query": dpkgQueryPlayed}},
		{"fedora-41", `[ "$(ls /run/pkgs)" = "podman
shadow-utils" ]; grep -- 'dnf -y' /run/log`, map[string]string{"dnf": rpmInstallPlayed, "rpm": rpmPlayed}},
		{"rocky-9", `[ -e /run/pkgs/shadow-utils ]`, map[string]string{"dnf": rpmInstallPlayed, "rpm": rpmPlayed}},
		{"alpine-3.20", `[ "$(ls /run/pkgs)" = "podman
shadow-subids" ]`, map[string]string{"apk": apkPlayed}},
		{"arch", `[ "$(ls /run/pkgs)" = podman ]; grep -- '-S --noconfirm' /run/log`, map[string]string{"pacman": pacmanPlayed}},
		{"opensuse-leap-15.6", `[ "$(ls /run/pkgs)" = "podman
shadow" ]; grep -- '--non-interactive' /run/log`, map[string]string{"zypper": rpmInstallPlayed, "rpm": rpmPlayed}},
	} {
		release, err := os.ReadFile("testdata/os-release/" + c.release)
		if err != nil {
			t.Fatal(err)
		}
		hosttest.Suite(t, []hosttest.Case{{
			Name: c.release, Host: hosttest.ScratchOptions{OSRelease: string(release)}, Play: c.play, Resources: want, After: c.after,
		}})
	}
}

func TestPackagesRefreshOnlyWhenNeeded(t *testing.T) {
	s := hosttest.NewScratch(t, hosttest.ScratchOptions{})
	s.Play(t, "apt-get", "BUSY=0\n"+aptGetPlayed)
	s.Play(t, "dpkg-query", dpkgQueryPlayed)
	s.Sh(t, "mkdir -p /var/lib/apt/lists/partial; touch /var/lib/apt/lists/x_Packages")
	for _, c := range []struct{ pkg, why, want string }{
		{"first", "lists are fresh, but the package is not in them", "install update install"},
		{"second", "lists are fresh", "install"},
	} {
		s.Sh(t, ": >/run/log")
		p, err := hostcfg.MakePlan(t.Context(), s, []hostcfg.Resource{hostcfg.Packages{Names: []string{c.pkg}}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Apply(t.Context(), s, hostcfg.ApplyOptions{}); err != nil {
			t.Fatal(err)
		}
		var did []string
		for _, w := range strings.Fields(s.Sh(t, "cat /run/log")) {
			if w == "install" || w == "update" {
				did = append(did, w)
			}
		}
		if got := strings.Join(did, " "); got != c.want {
			t.Errorf("%s: %s, want %s", c.why, got, c.want)
		}
	}
}

func TestPackagesThatDoNotExist(t *testing.T) {
	s := hosttest.NewScratch(t, hosttest.ScratchOptions{})
	s.Play(t, "apt-get", "echo 'E: Unable to locate package nonsense' >&2; exit 100\n")
	s.Play(t, "dpkg-query", dpkgQueryPlayed)
	p, err := hostcfg.MakePlan(t.Context(), s, []hostcfg.Resource{hostcfg.Packages{Names: []string{"nonsense"}}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.Apply(t.Context(), s, hostcfg.ApplyOptions{})
	if err == nil || !strings.Contains(err.Error(), "Unable to locate package nonsense") || !strings.Contains(err.Error(), "packages:base on scratch") {
		t.Errorf("error: %v", err)
	}
	if out.Changed != 0 || len(out.Steps) != 1 || out.Steps[0].Error == "" {
		t.Errorf("outcome: %+v", out)
	}
}

// What connects containers is passt from Podman 5 on, and Debian leaves it to be
// named; a release of before does not have it, and must not be asked for it.
func TestPackagesThatCameLater(t *testing.T) {
	for release, want := range map[string]string{
		`ID=debian`: "passt podman", `ID=debian VERSION_ID=13`: "passt podman", `ID=debian VERSION_ID=12`: "podman",
		`ID=raspbian VERSION_ID=13 ID_LIKE=debian`: "passt podman", `ID=raspbian VERSION_ID=12 ID_LIKE=debian`: "podman",
		`ID=ubuntu VERSION_ID=25.10 ID_LIKE=debian`: "passt podman", `ID=ubuntu VERSION_ID=24.04 ID_LIKE=debian`: "podman",
		`ID=other VERSION_ID=99 ID_LIKE=debian`: "podman",
	} {
		t.Run(release, func(t *testing.T) {
			s := hosttest.NewScratch(t, hosttest.ScratchOptions{OSRelease: strings.ReplaceAll(release, " ", "\n") + "\n"})
			s.Play(t, "apt-get", aptGetPlayed)
			s.Play(t, "dpkg-query", dpkgQueryPlayed)
			for _, changes := range []bool{true, false} {
				p, err := hostcfg.MakePlan(t.Context(), s, []hostcfg.Resource{hostcfg.Packages{Names: []string{"podman", "passt"}}})
				if err != nil {
					t.Fatal(err)
				}
				result, err := p.Apply(t.Context(), s, hostcfg.ApplyOptions{})
				if err != nil || (result.Changed > 0) != changes {
					t.Fatalf("%d changed, %v", result.Changed, err)
				}
			}
			if got := strings.Join(strings.Fields(s.Sh(t, "ls /run/pkgs")), " "); got != want {
				t.Errorf("installed are %s, want %s", got, want)
			}
		})
	}
}
