package hosttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/hostcfg"
)

// Scratch is a host in a directory. See the package comment.
type Scratch struct {
	root  string
	shell string
	runs  int
}

// ScratchOptions describe the host that a Scratch pretends to be.
type ScratchOptions struct {
	OSRelease string // content of /etc/os-release; "" is Debian 12's
	Systemd   bool   // play systemctl, loginctl and journalctl
	Busybox   bool   // busybox's shell and tools instead of dash and GNU's, as on Alpine
}

const debian12 = `PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
ID=debian
VERSION_ID="12"
VERSION_CODENAME=bookworm
`

// lacks says why no scratch host can be had here, or "".
func lacks() string {
	if os.Geteuid() != 0 {
		return "not root: a scratch host needs chroot and a mount namespace"
	}
	for _, c := range []string{"unshare", "chroot", "useradd"} {
		if _, err := exec.LookPath(c); err != nil {
			return err.Error()
		}
	}
	return ""
}

// NewScratch makes a scratch host that goes with the test. It skips the test
// where there can be none.
func NewScratch(t testing.TB, o ScratchOptions) *Scratch {
	t.Helper()
	if why := lacks(); why != "" {
		t.Skip("SKIPPED, no scratch host: " + why)
	}
	root := t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil { // a user of the host has to get in
		t.Fatal(err)
	}
	s := &Scratch{root: root, shell: "/bin/sh"}
	if o.OSRelease == "" {
		o.OSRelease = debian12
	}
	for dir, mode := range map[string]os.FileMode{
		"etc": 0o755, "etc/default": 0o755, "usr": 0o755, ".local/sbin": 0o755, ".local/bin": 0o755, ".local/lib": 0o755, "var/lib": 0o755,
		"var/mail": 0o755, "run": 0o755, "tmp": 0o777, "home": 0o755, "root": 0o700, "proc": 0o755, "dev": 0o755, "sys": 0o755,
	} {
		s.mkdir(t, dir, mode)
	}
	for name, content := range map[string]string{
		"etc/os-release": o.OSRelease,
		"etc/machine-id": "0123456789abcdef0123456789abcdef\n",
		"etc/passwd":     "root:x:0:0:root:/root:/bin/sh\npi:x:1000:1000:,,,:/home/pi:/bin/sh\n",
		"etc/group":      "root:x:0:\nadm:x:4:\npi:x:1000:\n",
		"etc/shadow":     "root:*:19000:0:99999:7:::\npi:*:19000:0:99999:7:::\n",
		"etc/gshadow":    "root:*::\nadm:*::\npi:!::\n",
		"etc/subuid":     "pi:100000:65536\n",
		"etc/subgid":     "pi:100000:65536\n",
		"etc/login.defs": "UID_MIN 1000\nUID_MAX 60000\nGID_MIN 1000\nGID_MAX 60000\nSYS_UID_MIN 100\nSYS_UID_MAX 999\nSYS_GID_MIN 100\nSYS_GID_MAX 999\nUSERGROUPS_ENAB yes\n",
		"etc/hosts":      "127.0.0.1\tlocalhost\n",
	} {
		s.Write(t, "/"+name, content, 0o644)
	}
	for _, link := range []string{"bin", "sbin", "lib", "lib64", "lib32"} {
		if to, err := os.Readlink("/" + link); err == nil {
			if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if o.Systemd {
		s.playSystemd(t)
	}
	if o.Busybox {
		s.installBusybox(t)
	}
	return s
}

// installBusybox puts busybox's tools in front of GNU's.
func (s *Scratch) installBusybox(t testing.TB) {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("SKIPPED, no busybox (Debian: busybox-static): " + err.Error())
	}
	out, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, applet := range strings.Fields(string(out)) {
		front := s.Path("/usr/local/sbin/" + applet)
		if _, err := os.Lstat(front); err == nil {
			continue // played
		}
		if err := os.Symlink(busybox, front); err != nil {
			t.Fatal(err)
		}
	}
	s.shell = "/usr/local/sbin/ash"
}

func (s *Scratch) mkdir(t testing.TB, dir string, mode os.FileMode) {
	t.Helper()
	full := filepath.Join(s.root, dir)
	if err := errors.Join(os.MkdirAll(full, 0o755), os.Chmod(full, mode)); err != nil {
		t.Fatal(err)
	}
}

// Path is where a file of the host is in our own tree.
func (s *Scratch) Path(name string) string {
	if rest, ok := strings.CutPrefix(name, "/usr/local/"); ok {
		return filepath.Join(s.root, ".local", rest)
	}
	return filepath.Join(s.root, name)
}

// Write puts a file on the host, owned by root, making directories as needed.
func (s *Scratch) Write(t testing.TB, name, content string, mode os.FileMode) {
	t.Helper()
	full := s.Path(name)
	err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755), os.WriteFile(full, []byte(content), mode), os.Chmod(full, mode))
	if err != nil {
		t.Fatal(err)
	}
}

// Play installs a shell script as a command of the host, in front of a real
// one of the same name.
func (s *Scratch) Play(t testing.TB, command, script string) {
	t.Helper()
	s.Write(t, "/usr/local/sbin/"+command, "#!/bin/sh\n"+script, 0o755)
}

// Name is "scratch".
func (s *Scratch) Name() string { return "scratch" }

// Runs is how many scripts have run so far.
func (s *Scratch) Runs() int { return s.runs }

// enter builds the host's view of the tree and starts a shell in it. In a
// read-only run nothing but /dev and /proc can be written.
const enter = `set -e
root=$1 ro=$2
mount --bind "$root" "$root"
mount --rbind /dev "$root/dev"
mount --rbind /proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --bind -o ro /usr "$root/usr"
mount --bind "$root/.local" "$root/usr/local"
if [ "$ro" = true ]; then
	mount -o remount,bind,ro "$root"
	mount -o remount,bind,ro "$root/usr/local"
fi
exec chroot "$root" "$3" -c 'script=$(cat <&3); exec 3<&-; eval "$script"'
`

// Run runs a script in the scratch tree, as root or another user of it.
func (s *Scratch) Run(ctx context.Context, c hostcfg.Command) (hostcfg.Result, error) {
	s.runs++
	if c.Timeout == 0 {
		c.Timeout = time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	r, w, err := os.Pipe()
	if err != nil {
		return hostcfg.Result{}, err
	}
	defer func() { _ = r.Close() }()
	go func() {
		_, _ = io.WriteString(w, c.Script) // the shell may be gone, which Wait reports
		_ = w.Close()
	}()
	script := enter
	if c.User != "" {
		script = strings.Replace(script, `"$3" -c`, "runuser -u "+c.User+` -- "$3" -c`, 1)
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", s.root, fmt.Sprint(c.ReadOnly), s.shell)
	cmd.ExtraFiles = []*os.File{r}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	err = cmd.Run()
	res := hostcfg.Result{Stdout: stdout.Bytes(), Stderr: stderr.Bytes()}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() >= 0 {
		res.ExitCode = exit.ExitCode()
		return res, nil
	}
	if err != nil {
		return res, fmt.Errorf("connection lost: %w", err)
	}
	return res, nil
}

// Get reads a file of the host.
func (s *Scratch) Get(_ context.Context, name string, limit int64) ([]byte, error) {
	b, err := os.ReadFile(s.Path(name))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return b, err
}

// Put replaces a file of the host, with the host's own shell.
func (s *Scratch) Put(ctx context.Context, u hostcfg.Upload) error {
	owner, group := u.Owner, u.Group
	if owner == "" {
		owner = "root"
	}
	if group == "" {
		group = "root"
	}
	res, err := s.Run(ctx, hostcfg.Command{Stdin: u.Content, Script: fmt.Sprintf(`set -eu
PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin
p='%s' t='%s'
rm -f "$t"; : >"$t"; chown '%s:%s' "$t"; chmod %04o "$t"; cat >"$t"
set -- $(sha256sum <"$t"); [ "%s" = "" ] || [ "$1" = "%[6]s" ] || { rm -f "$t"; echo 'wrong hash' >&2; exit 1; }
mv -f "$t" "$p"
`, u.Path, hostcfg.TempPath(u.Path), owner, group, u.Mode.Perm(), u.SHA256)})
	if err == nil && res.ExitCode != 0 {
		err = fmt.Errorf("put %s: %s", u.Path, res.Stderr)
	}
	return err
}

// Sh runs a script as root and fails the test when it fails.
func (s *Scratch) Sh(t testing.TB, script string) string {
	t.Helper()
	res, err := s.Run(context.Background(), hostcfg.Command{Script: script})
	if err != nil || res.ExitCode != 0 {
		t.Fatalf("script failed: %v, status %d\n%s\n%s%s", err, res.ExitCode, script, res.Stdout, res.Stderr)
	}
	return string(res.Stdout)
}
