package sshhost

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
)

// The root shell's side of the protocol. Two texts: loop is what root runs,
// bootstrap is what the login shell is asked to run to get there.
//
// The login shell may be csh or fish, so all of it travels in one pair of
// single quotes, in which these shells agree with POSIX as long as there is
// no single quote, no exclamation mark, no newline and no doubled backslash.
//
// loop reads a line and evaluates it, for ever. read takes exactly one line
// from a pipe, and dd with fullblock exactly the bytes it was told to take,
// so what follows in the input stays where it is for whoever reads next.
// A script runs in the background, so that the loop sees the end of its input
// while a script runs: it then terminates all of its process group (its own,
// thanks to setsid) and kills what is left of it three seconds later. When
// the input broke off in the middle of what a script reads (N), the loop keeps
// the script's end open meanwhile: it must not take this for a regular end.
const loop = `trap : TERM;cd /;umask 022;` +
	`export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=~root USER=root LOGNAME=root;` +
	`M=@M;p=;N=;` +
	`Q(){ trap "" TERM;(sleep 3;kill -9 0)>/dev/null 2>&1 </dev/null& kill 0;` +
	`test "$N" && { sleep 1;kill 0;wait;};test "$p" && wait $p;exit 143;};` +
	`W(){ while IFS= read -r l;do eval "$l";done;Q;};` +
	`echo;echo $M at hello $(id -u) $SUDO_USER;echo >&2;echo $M up >&2;W`

// start runs the loop, given as $0, in a session and process group of its
// own. The no-op after it keeps the outer shell in place: setsid forks, and
// returns at once, when it leads a process group.
const start = `setsid sh -c "$0";:`

// The bootstrap tries root, then sudo without a password, and otherwise says
// why not and waits to be told what to do, in one line of shell. A sudo that
// worked ends with 0, however the root shell ended, or by a signal: then there
// is nothing to ask, and the end of the session tells.
const bootstrap = `S=@S;L=@L;M=@M;` +
	`if test "$(id -u)" = 0;then exec sh -c "$S" "$L";fi;` +
	`LC_ALL=C sudo -n sh -c "$S" "$L";r=$?;` +
	`if test $r = 0||test $r -gt 128;then exit $r;fi;` + ask

// ptyBootstrap is for a sudo that insists on a terminal. The terminal is
// there, but nothing passes through sudo's end of it: cat makes pipes of
// sudo's input and output, for a terminal would mangle them.
const ptyBootstrap = `stty raw -echo 2>/dev/null;S=@S;L=@L;M=@M;r=1;` +
	`if LC_ALL=C sudo -n true 2>/dev/null;then cat|LC_ALL=C sudo -n sh -c "$S" "$L" 2>&1|cat;exit;fi;` + ask

const ask = `echo;echo $M at ask $r;echo >&2;echo $M up >&2;IFS= read -r l&&eval "$l"`

// The line that answers ask. sudo -S takes one line, byte by byte, from the
// same input that the loop goes on with; -k makes sure that it does.
const (
	withPassword      = `LC_ALL=C sudo -S -k -p "$M prompt" sh -c "$S" "$L";echo >&2;echo $M out >&2`
	withPasswordPiped = `cat|LC_ALL=C sudo -S -k -p "$M prompt" sh -c "$S" "$L" 2>&1|cat;echo >&2;echo $M out >&2`
)

// Functions that the loop is sent before the first request. $1 is the number
// of the request and $2 the size in bytes of its script, which follows the line.
//
//	R  runs a script
//	I  runs a script whose input is counted chunks; the loop goes on in the
//	   left half of the pipeline until it is told to exit
//	F  copies counted chunks to stdout, up to a chunk of 0
//	C  copies so many bytes to stdout
//	X  runs the script and ends the request on both streams: marker, number
//	   and, on stdout, status
const (
	commonFunctions = `C(){ dd bs=$1 count=1 iflag=fullblock 2>/dev/null;};` +
		`R(){ wait;s=$(C $2);(trap : TERM;X $1)</dev/null& p=$!;};` +
		`F(){ while IFS= read -r n||Q;do test $n = 0&&return;C $n;done;};` +
		`I(){ wait;p=;s=$(C $2);{ N=1;F;N=;exec >/dev/null;W;}|{ trap : TERM;X $1;};};`
	plainX = `X(){ (eval "$s");printf '\n%s %s %s\n' $M $1 $?;printf '\n%s %s\n' $M $1 >&2;}`
	// mergedX is for a terminal, where both streams are one: it holds
	// stderr back and sends it behind the status.
	mergedX = `X(){ { e=$( (eval "$s") 2>&1 >&3 3>&-;c=$?;echo x;exit $c);c=$?;} 3>&1;` +
		`printf '\n%s %s %s\n' $M $1 $c;printf '%s\n%s %s\n' "${e%x}" $M $1;}`
)

func functions(merged bool) string {
	if merged {
		return commonFunctions + mergedX + "\n"
	}
	return commonFunctions + plainX + "\n"
}

// newMarker makes the text that no banner, file or script has in it.
func newMarker() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails: it ends the program instead
	return "fleetctl-" + hex.EncodeToString(b)
}

// bootstrapCommand gives the command for the login shell.
func bootstrapCommand(text, marker string) string {
	text = fill(text, "S", doubleQuote(start), "L", doubleQuote(loop))
	return "sh -c '" + fill(text, "M", marker) + "'"
}

// fill puts values in the place of @NAME in a script. The values are taken as
// they are: what is not meant as shell has to be quoted.
func fill(script string, namesAndValues ...string) string {
	for i := 0; i < len(namesAndValues); i += 2 {
		namesAndValues[i] = "@" + namesAndValues[i]
	}
	return strings.NewReplacer(namesAndValues...).Replace(script)
}

// doubleQuote quotes text without backslashes for sh.
func doubleQuote(s string) string {
	return `"` + strings.NewReplacer(`"`, `\"`, `$`, `\$`, "`", "\\`").Replace(s) + `"`
}

// quote quotes any text for sh.
func quote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
