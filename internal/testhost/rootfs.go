package testhost

import (
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// template builds or finds the root filesystem that hosts start from.
func template(ctx context.Context, o Options) (string, error) {
	_, here, _, _ := runtime.Caller(0)
	script := filepath.Join(filepath.Dir(here), "..", "..", "scripts", "build-rootfs")
	cmd := exec.CommandContext(ctx, script, "--suite", o.Suite, "--flavour", o.flavour())
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("build the root filesystem: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(out)), nil
}

// mount lays the host's root over the template, which stays as it is: a copy
// takes 2 s, this 2 ms. Where /var/tmp itself is an overlay, as in a container,
// the kernel refuses and the template is copied.
func (s slot) mount(ctx context.Context, template string) error {
	upper, work := filepath.Join(s.dir(), "upper"), filepath.Join(s.dir(), "work")
	for _, dir := range []string{upper, work, s.root()} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	data := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", template, upper, work)
	if err := syscall.Mount("overlay", s.root(), "overlay", 0, data); err == nil {
		return nil
	}
	out, err := exec.CommandContext(ctx, "cp", "-a", "--reflink=auto", template+"/.", s.root()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("copy the root filesystem: %w: %s", err, out)
	}
	return nil
}

// devices that rootless containers use, which udev makes usable by everyone.
var devices = map[string]int{
	"fuse": int(unix.Mkdev(10, 229)),
	"tun":  int(unix.Mkdev(10, 200)),
}

func (s slot) device(name string) string { return filepath.Join(s.dir(), name) }

// makeDevices makes nodes of the host's own: those of the machine may have
// another mode, which is not ours to change.
func (s slot) makeDevices() error {
	for name, number := range devices {
		path := s.device(name)
		if err := errors.Join(unix.Mknod(path, unix.S_IFCHR, number), os.Chmod(path, 0o666)); err != nil {
			return fmt.Errorf("make the device %s: %w", name, err)
		}
	}
	return nil
}

func (s slot) unmount() error {
	err := syscall.Unmount(s.root(), 0)
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, fs.ErrNotExist) {
		return nil // not mounted
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", s.root(), err)
	}
	return nil
}

// personalise makes a copy of the template one particular host.
func (h *Host) personalise() error {
	authorized, err := h.makeClientKey()
	if err != nil {
		return err
	}
	hostKey, hostPublic, err := newKey()
	if err != nil {
		return err
	}
	known := fmt.Sprintf("%s %s", h.IP(), hostPublic)
	if err := os.WriteFile(h.KnownHostsFile(), []byte(known), 0o644); err != nil {
		return err
	}
	name := h.options.Hostname
	root := h.Root()
	pi := filepath.Join(root, "home", User)
	type file struct {
		path, content string
		mode          fs.FileMode
	}
	files := []file{
		{root + "/etc/hostname", name + "\n", 0o644},
		{root + "/etc/hosts", fmt.Sprintf("127.0.0.1\tlocalhost\n127.0.1.1\t%s\n::1\tlocalhost ip6-localhost\n", name), 0o644},
		{root + "/etc/apt/apt.conf.d/90testhost-proxy", fmt.Sprintf("Acquire::http::Proxy \"http://%s\";\n", h.proxy.Addr()), 0o644},
		{root + "/etc/ssh/ssh_host_ed25519_key", string(hostKey), 0o600},
		{root + "/etc/ssh/ssh_host_ed25519_key.pub", string(hostPublic), 0o644},
		{root + "/root/.ssh/authorized_keys", authorized, 0o600},
		{pi + "/.ssh/authorized_keys", authorized, 0o600},
	}
	if !limitsProcesses() {
		files = append(files, file{root + "/etc/containers/containers.conf.d/testhost.conf", "[containers]\npids_limit = 0\n", 0o644})
	}
	for _, f := range files {
		dir := fs.FileMode(0o755)
		if f.mode == 0o600 {
			dir = 0o700
		}
		if err := os.MkdirAll(filepath.Dir(f.path), dir); err != nil {
			return err
		}
		if err := os.WriteFile(f.path, []byte(f.content), f.mode); err != nil {
			return err
		}
	}
	return ownLike(pi, pi+"/.ssh", pi+"/.ssh/authorized_keys")
}

// makeClientKey writes the private key that opens the host and returns its
// authorized_keys line.
func (h *Host) makeClientKey() (string, error) {
	private, public, err := newKey()
	if err != nil {
		return "", err
	}
	return string(public), os.WriteFile(h.KeyFile(), private, 0o600)
}

// newKey makes an Ed25519 key: OpenSSH's PEM, and the public half as a line.
func newKey() (private, public []byte, err error) {
	pub, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, nil, err
	}
	block, err := ssh.MarshalPrivateKey(priv, "fleetctl test host")
	if err != nil {
		return nil, nil, err
	}
	sshPub, err := ssh.NewPublicKey(pub)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(block), ssh.MarshalAuthorizedKey(sshPub), nil
}

// ownLike gives paths the owner that reference has.
func ownLike(reference string, paths ...string) error {
	info, err := os.Stat(reference)
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	for _, p := range paths {
		if err := os.Chown(p, int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}
	return nil
}
