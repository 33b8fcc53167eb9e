package sshhost

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/nationtech/fleetctl/hostcfg"
)

// Statuses with which the scripts below report what has a meaning of its own.
const (
	codeMissing  = 44
	codeTooLarge = 45
	codeNotFile  = 46
)

// Get reads a file as root. See hostcfg.Host.
func (h *Host) Get(ctx context.Context, name string, limit int64) ([]byte, error) {
	fail := func(err error) ([]byte, error) {
		return nil, fmt.Errorf("%s: read %s: %w", h.Name(), name, err)
	}
	if !path.IsAbs(name) {
		return fail(fmt.Errorf("the path is not absolute"))
	}
	out, err := h.script(ctx, "f="+quote(name)+";n="+strconv.FormatInt(limit, 10)+getScript, nil, 0)
	if err != nil {
		return fail(err)
	}
	switch out.code {
	case 0:
		if int64(len(out.stdout)) > limit {
			return fail(fmt.Errorf("larger than %d bytes", limit))
		}
		return out.stdout, nil
	case codeMissing:
		return fail(fs.ErrNotExist)
	case codeTooLarge:
		return fail(fmt.Errorf("larger than %d bytes", limit))
	case codeNotFile:
		return fail(fmt.Errorf("not a regular file"))
	}
	return fail(out.failure())
}

// getScript prints $f. Files of /proc and /sys have no size that could be
// looked at first, hence the limit by head.
const getScript = `
if [ ! -e "$f" ]; then exit 44; fi
if [ ! -f "$f" ]; then exit 46; fi
if [ "$(stat -Lc %s -- "$f")" -gt "$n" ]; then exit 45; fi
head -c $((n + 1)) -- "$f"`

// failure makes an error of a script's status.
func (o output) failure() error {
	said := strings.TrimSpace(string(o.stderr))
	if said == "" {
		return fmt.Errorf("status %d", o.code)
	}
	return fmt.Errorf("status %d: %s", o.code, said)
}

// Put replaces a file as root. See hostcfg.Host.
func (h *Host) Put(ctx context.Context, f hostcfg.Upload) error {
	if err := h.put(ctx, f); err != nil {
		return fmt.Errorf("%s: write %s: %w", h.Name(), f.Path, err)
	}
	return nil
}

func (h *Host) put(ctx context.Context, f hostcfg.Upload) error {
	if !path.IsAbs(f.Path) || strings.HasSuffix(f.Path, "/") {
		return fmt.Errorf("not an absolute path of a file")
	}
	owner, group := f.Owner, f.Group
	if owner == "" {
		owner = "root"
	}
	if group == "" {
		group = "root"
	}
	content := &hashing{r: f.Content, sum: sha256.New()}
	if f.Content == nil {
		content.r = strings.NewReader("")
	}
	script := fmt.Sprintf("f=%s;d=%s;t=%s;o=%s;m=%o;w=%s", quote(f.Path), quote(path.Dir(f.Path)), quote(hostcfg.TempPath(f.Path)),
		quote(owner+":"+group), unixMode(f.Mode), quote(strings.ToLower(f.SHA256))) + putScript
	out, err := h.script(ctx, script, content, 0)
	if err != nil {
		return err
	}
	if out.code != 0 {
		return out.failure()
	}
	if got := strings.TrimSpace(string(out.stdout)); got != content.hex() {
		return fmt.Errorf("sent content with SHA-256 %s, and %s arrived", content.hex(), got)
	}
	return nil
}

// hashing is a reader that computes the SHA-256 of what passes through it.
type hashing struct {
	r   io.Reader
	sum hash.Hash
}

func (h *hashing) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	h.sum.Write(p[:n])
	return n, err
}

func (h *hashing) hex() string { return hex.EncodeToString(h.sum.Sum(nil)) }

// unixMode gives permission, setuid, setgid and sticky bits as chmod has them.
func unixMode(m fs.FileMode) uint32 {
	u := uint32(m.Perm())
	if m&fs.ModeSetuid != 0 {
		u |= 0o4000
	}
	if m&fs.ModeSetgid != 0 {
		u |= 0o2000
	}
	if m&fs.ModeSticky != 0 {
		u |= 0o1000
	}
	return u
}

// putScript writes its input to $f by way of $t. The temporary file is made
// by the shell's noclobber and from then on reached through its descriptor
// only: whoever owns the directory can put nothing else in its place. It is
// removed only while it is still ours, and one run at a time writes into a directory:
// a script whose connection was cut may end after the next run has begun.
const putScript = `
set -C; umask 077
if [ ! -d "$d" ]; then echo "no directory $d" >&2; exit 1; fi
if [ -d "$f" ]; then echo "it is a directory" >&2; exit 1; fi
tidy() { [ ! "$t" -ef /proc/self/fd/4 ] || rm -f -- "$t"; }
trap 'tidy; exit 143' TERM HUP INT
fail() { tidy; exit 1; }
if command -v flock >/dev/null; then exec 5<"$d" && flock -w 20 5 || { echo "another run is writing into $d" >&2; exit 1; }; fi
rm -f -- "$t"
exec 4>"$t" || exit 1
chown -- "$o" /proc/self/fd/4 && chmod "$m" /proc/self/fd/4 || fail
cat >&4 || fail
sync /proc/self/fd/4 2>/dev/null || sync
s=$(sha256sum </proc/self/fd/4) || fail
s=${s%% *}
if [ -n "$w" ] && [ "$w" != "$s" ]; then echo "SHA-256 is $s, not $w" >&2; fail; fi
if [ ! "$t" -ef /proc/self/fd/4 ]; then echo "another run replaced $t" >&2; exit 1; fi
mv -fT -- "$t" "$f" || fail
sync "$d" 2>/dev/null
echo "$s"`
