package sshhost

import "crypto/rand"

// asUser gives a root script that runs a script as another user, with the
// environment of a login: home directory, and the paths of the user's runtime
// directory and bus. The script travels in a here-document on descriptor 9,
// so that it is on no command line and its input stays free.
func asUser(user, script string) string {
	end := "end-" + rand.Text()
	return fill(asUserScript, "USER", quote(user), "END", end, "SCRIPT", script)
}

const asUserScript = `u=@USER
if ! i=$(id -u -- "$u" 2>/dev/null); then echo "no user $u" >&2; exit 125; fi
h=$(getent passwd "$i" | cut -d: -f6)
set -- env "HOME=$h" "USER=$u" "LOGNAME=$u" SHELL=/bin/sh "XDG_RUNTIME_DIR=/run/user/$i" \
  "DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/$i/bus" \
  sh -c 's=$(cat <&9); exec 9<&-; cd "$HOME" 2>/dev/null || cd /; eval "$s"'
if command -v runuser >/dev/null; then
  set -- runuser -u "$u" -- "$@"
else
  set -- su -s /bin/sh "$u" -c 'exec "$0" "$@"' -- "$@"
fi
"$@" 9<<'@END'
@SCRIPT
@END
`
