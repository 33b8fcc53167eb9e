package hosttest

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// writers are the commands with which hostcfg's scripts change a host.
var writers = []string{
	"mv", "rm", "ln", "mkdir", "rmdir", "chmod", "chown", "sync", "groupadd", "groupdel", "useradd", "usermod", "userdel",
}

// KillAt makes the host lose its shell, as kill -9 or a power cut would do,
// just before the nth command (from 1) that changes something: everything
// before it has happened, nothing after it has. Programs that Play installed
// stay in place behind the shims. Call it once before each Disarm.
func (s *Scratch) KillAt(t testing.TB, n int) {
	t.Helper()
	s.Write(t, "/run/kill-at", strconv.Itoa(n), 0o644)
	s.Write(t, "/run/kill-count", "0", 0o644)
	s.mkdir(t, ".local/played", 0o755)
	for _, c := range Shimmed() {
		front := s.Path("/usr/local/sbin/" + c)
		if _, err := os.Stat(front); err == nil {
			if err := os.Rename(front, s.Path("/usr/local/played/"+c)); err != nil {
				t.Fatal(err)
			}
		}
		s.Write(t, "/usr/local/sbin/"+c, KillShim, 0o755)
	}
}

// Shimmed names the commands that change a host, which KillShim is put in front of.
func Shimmed() []string { return append([]string{"systemctl", "loginctl"}, writers...) }

// KillShim stands in front of a command: scripts search /usr/local/sbin first.
// The command of the number in /run/kill-at is not run: its process group is
// killed. What is asked in a read-only run does not count.
const KillShim = `#!/bin/sh
if [ -w /run/kill-count ]; then
	read -r at </run/kill-at
	read -r n </run/kill-count
	n=$((n + 1))
	echo $n >/run/kill-count
	[ "$n" != "$at" ] || kill -KILL 0
fi
name=${0##*/}
PATH=/usr/local/played:/usr/sbin:/usr/bin:/sbin:/bin
exec "$name" "$@"
`

// Disarm takes the shims away and tells whether the kill has struck.
func (s *Scratch) Disarm(t testing.TB) bool {
	t.Helper()
	for _, c := range Shimmed() {
		front := s.Path("/usr/local/sbin/" + c)
		if err := os.Remove(front); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(s.Path("/usr/local/played/" + c)); err == nil {
			if err := os.Rename(s.Path("/usr/local/played/"+c), front); err != nil {
				t.Fatal(err)
			}
		}
	}
	at, err1 := os.ReadFile(s.Path("/run/kill-at"))
	count, err2 := os.ReadFile(s.Path("/run/kill-count"))
	n, err3 := strconv.Atoi(strings.TrimSpace(string(count)))
	want, err4 := strconv.Atoi(string(at))
	for _, err := range []error{err1, err2, err3, err4} {
		if err != nil {
			t.Fatal(fmt.Errorf("kill counter: %w", err))
		}
	}
	for _, f := range []string{"/run/kill-at", "/run/kill-count"} {
		_ = os.Remove(s.Path(f)) // was read a moment ago
	}
	return n >= want
}
