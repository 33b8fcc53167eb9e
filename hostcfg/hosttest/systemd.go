package hosttest

import "testing"

// playSystemd installs a systemctl that keeps the state of units in files, and
// a loginctl that makes a user's bus appear. It knows the calls that hostcfg
// makes and fails on all others. A unit exists when it has a file in
// /etc/systemd/system, /etc/systemd/user or /var/lib/units (what packages
// brought). /var/lib/units/jobs lists the jobs that were run.
func (s *Scratch) playSystemd(t testing.TB) {
	t.Helper()
	for _, d := range []string{"run/systemd/system", "run/user", "etc/systemd/system", "etc/systemd/user", "var/lib/systemd/linger", "var/lib/units/state"} {
		s.mkdir(t, d, 0o755)
	}
	s.Play(t, "systemctl", systemctlPlayed)
	s.Play(t, "loginctl", loginctlPlayed)
	s.Play(t, "journalctl", "echo 'a line of the journal'\n")
	// A user of the host may not change root's files, so that the player of
	// the user's manager stays root.
	s.Play(t, "runuser", `[ "$1 $3 $4" = "-u -- env" ] || { echo "runuser: not played: $*" >&2; exit 99; }
shift 4
exec env "$@"
`)
}

const systemctlPlayed = `scope=system
units=/var/lib/units
[ "$1" != --user ] || { scope=user; shift; }
[ "$1" != -q ] || shift
verb=$1; shift
exists() { [ -e "/etc/systemd/$scope/$1" ] || [ -e "$units/$1" ]; }
state() { printf '%s/state/%s.%s.%s' "$units" "$scope" "$1" "$2"; }
job() { printf '%s %s %s\n' "$scope" "$1" "$2" >>"$units/jobs"; }
case $verb in
--version) echo 'systemd 252 (252.22-1~deb12u1)' ;;
daemon-reload) rm -f "$units/state/$scope.reload" ;;
show)
	[ "$1 $3" = "-p --" ] || { echo "systemctl show: not played: $*" >&2; exit 99; }
	shift 3
	first=yes
	for u; do
		[ -n "$first" ] || echo
		first=
		load=not-found file= active=inactive sub=dead
		if exists "$u"; then
			load=loaded file=disabled
			[ ! -e "$(state "$u" enabled)" ] || file=enabled
		fi
		[ ! -e "$(state "$u" active)" ] || { active=active sub=running; }
		printf 'Id=%s\nNames=%s\nLoadState=%s\nActiveState=%s\nSubState=%s\nUnitFileState=%s\nNeedDaemonReload=no\n' "$u" "$u" $load $active $sub "$file"
	done ;;
enable|reenable|disable|start|stop|restart|reset-failed)
	[ "$1" != --now ] || { now=yes; shift; }
	[ "$1" = -- ] || { echo "systemctl $verb: not played: $*" >&2; exit 99; }
	u=$2
	case $verb in reset-failed) exit 0 ;; esac
	exists "$u" || { echo "Unit $u not found." >&2; exit 5; }
	case $verb in
	enable|reenable) : >"$(state "$u" enabled)" ;;
	disable) rm -f "$(state "$u" enabled)"; [ -z "$now" ] || { rm -f "$(state "$u" active)"; job stop "$u"; } ;;
	start) : >"$(state "$u" active)"; job start "$u" ;;
	restart) : >"$(state "$u" active)"; job restart "$u" ;;
	stop) rm -f "$(state "$u" active)"; job stop "$u" ;;
	esac ;;
*) echo "systemctl: not played: $verb $*" >&2; exit 99 ;;
esac
`

const loginctlPlayed = `uid=$(id -u -- "$2") || exit 1
case $1 in
enable-linger)
	: >"/var/lib/systemd/linger/$2"
	mkdir -p "/run/user/$uid"
	[ -S "/run/user/$uid/bus" ] || perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => shift, Listen => 1) or die' "/run/user/$uid/bus" ;;
disable-linger) rm -rf "/var/lib/systemd/linger/$2" "/run/user/$uid" ;;
*) echo "loginctl: not played: $*" >&2; exit 99 ;;
esac
`
