package hostcfg

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/nationtech/fleetctl/internal/hint"
)

// maxInline is the largest content that travels inside a script; larger or
// binary content goes through Host.Put.
const maxInline = 64 << 10

// fileWrite is a file as it will be: what File, Block, the units and Sysctl
// have in common.
type fileWrite struct {
	path         string
	owner, group string
	mode         fs.FileMode
	content      []byte
	source       string // instead of content: a local file
	sha256       string // hex
	size         int64
	sensitive    bool
	keepMeta     bool // leave owner and mode of an existing file, for what is only partly ours
}

func hashOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// unless is the hash for which a query need not fetch the present content.
func (w *fileWrite) unless() string {
	if w.sensitive || w.source != "" {
		return noContent
	}
	return w.sha256
}

// plan compares w with what is there and reports whether the content changes.
func (w *fileWrite) plan(s *state, st *Step) (bool, error) {
	cur := s.paths[w.path]
	st.sweep(s, w.path)
	switch {
	case cur == nil:
		st.change("create %s, %s %s:%s, %s", w.path, octal(w.mode), w.owner, w.group, byteCount(w.size))
	case cur.typ == "directory" || cur.typ == "other":
		return false, hint.New(fmt.Sprintf("%s is a %s, not a file", w.path, cur.typ), "move it away on the host, then run again")
	case cur.typ == "link":
		st.change("replace the link %s -> %s by a file, %s %s:%s, %s", w.path, cur.target, octal(w.mode), w.owner, w.group, byteCount(w.size))
	case cur.sha256 != w.sha256:
		st.change("change the content of %s", w.path)
		w.planMeta(cur, st)
	default:
		if w.planMeta(cur, st) {
			st.run(guard(w.path, cur) + w.metaScript())
		}
		return false, nil
	}
	w.planDiff(cur, st)
	w.planWrite(cur, st)
	return true, nil
}

// planMeta notes differences of owner and mode.
func (w *fileWrite) planMeta(cur *pathState, st *Step) bool {
	before := len(st.Changes)
	if w.keepMeta {
		return false
	}
	if !isAccount(w.owner, cur.owner, cur.uid) || !isAccount(w.group, cur.group, cur.gid) {
		st.change("give %s to %s:%s (was %s:%s)", w.path, w.owner, w.group, cur.owner, cur.group)
	}
	if octal(cur.mode) != octal(w.mode) {
		st.change("set the mode of %s to %s (was %s)", w.path, octal(w.mode), octal(cur.mode))
	}
	return len(st.Changes) > before
}

func isAccount(want, name string, id int) bool { return want == name || want == fmt.Sprint(id) }

func (w *fileWrite) metaScript() string {
	return fmt.Sprintf("[ ! -L %[1]s ] || die %[1]s' is a link'\nchown -h -- %[2]s %[1]s\nchmod -- %[3]s %[1]s\n",
		quote(w.path), quote(w.owner+":"+w.group), octal(w.mode))
}

func (w *fileWrite) planDiff(cur *pathState, st *Step) {
	switch {
	case w.sensitive:
		st.addDiff(fmt.Sprintf("Sensitive file %s: content not shown\n", w.path))
	case w.source != "":
		st.addDiff(fmt.Sprintf("File %s: %s, sha256 %s\n", w.path, byteCount(w.size), w.sha256))
	case cur != nil && cur.typ == "file" && !cur.fetched:
		st.addDiff(fmt.Sprintf("File %s: %s become %s\n", w.path, byteCount(cur.size), byteCount(w.size)))
	default:
		var old []byte
		if cur != nil && cur.typ == "file" {
			old = append([]byte{}, cur.content...)
		}
		st.addDiff(unifiedDiff(w.path, old, append([]byte{}, w.content...)))
	}
}

// planWrite adds the operations: one script, or a guard and an upload.
func (w *fileWrite) planWrite(cur *pathState, st *Step) {
	dir := path.Dir(w.path)
	head := fmt.Sprintf("[ -d %[1]s ] || die 'directory '%[1]s' does not exist'\n", quote(dir)) + guard(w.path, cur)
	if w.source != "" || len(w.content) > maxInline || bytes.IndexByte(w.content, 0) >= 0 {
		st.run(head)
		st.ops = append(st.ops, &uploadOp{
			upload:  Upload{Path: w.path, Owner: w.owner, Group: w.group, Mode: w.mode, SHA256: w.sha256},
			source:  w.source,
			content: w.content,
		})
		return
	}
	st.run(head + w.script(cur))
}

// script writes content to a temporary file and renames it over the path.
// Owner and mode are set through the open descriptor, so that a user who owns
// the directory cannot redirect them with a link; runs of two people at once
// are kept apart by a flock(2) on the directory, where there is the command.
func (w *fileWrite) script(cur *pathState) string {
	var b strings.Builder
	fmt.Fprintf(&b, "p=%s d=%s t=%s\n", quote(w.path), quote(path.Dir(w.path)), quote(TempPath(w.path)))
	b.WriteString(`exec 9<"$d"
if command -v flock >/dev/null 2>&1; then flock 9; fi
rm -f -- "$t"
trap 'rm -f -- "$t"' EXIT
trap 'exit 1' HUP INT TERM
old=$(umask); umask 077; set -C; exec 8>"$t"; set +C; umask "$old"
`)
	if w.keepMeta && cur != nil && cur.typ == "file" {
		// A file system without owners (the boot partition of a Pi) refuses
		// chown but has nothing to change either.
		fmt.Fprintf(&b, "[ \"$(stat -c %%u:%%g /proc/self/fd/8)\" = %[1]d:%[2]d ] || chown %[1]d:%[2]d /proc/self/fd/8\n", cur.uid, cur.gid)
		fmt.Fprintf(&b, "chmod %s /proc/self/fd/8 2>/dev/null || :\n", octal(cur.mode))
	} else {
		fmt.Fprintf(&b, "chown %s /proc/self/fd/8\nchmod %s /proc/self/fd/8\n", quote(w.owner+":"+w.group), octal(w.mode))
	}
	fmt.Fprintf(&b, "printf %%s %s >&8\nexec 8>&-\n", quote(string(w.content)))
	fmt.Fprintf(&b, "set -- $(sha256sum <\"$t\"); [ \"$1\" = %s ] || die \"$t did not arrive whole\"\n", w.sha256)
	b.WriteString(`sync "$t" 2>/dev/null || sync
mv -f -- "$t" "$p"
sync "$d" 2>/dev/null || sync
trap - EXIT
if command -v restorecon >/dev/null 2>&1; then restorecon -- "$p"; fi
`)
	return b.String()
}

// sweep removes the temporary file that an interrupted run left beside path.
func (st *Step) sweep(s *state, path string) {
	if left := TempPath(path); s.paths[left] != nil {
		st.change("remove %s, left behind by an interrupted run", left)
		st.run("rm -f -- " + quote(left) + "\n")
	}
}

func byteCount(n int64) string {
	switch {
	case n == 1:
		return "1 byte"
	case n < 10_000:
		return fmt.Sprintf("%d bytes", n)
	case n < 10_000_000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}
