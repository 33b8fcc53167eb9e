//go:build hosts

package sshhost_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/hostcfg"
	"github.com/nationtech/fleetctl/hostcfg/sshhost"
	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/testhost"
)

// realRig reaches a throw-away host with the key and known_hosts file of the
// harness.
func realRig(t *testing.T, h *testhost.Host, user string) *rig {
	t.Helper()
	r := &rig{target: target(t, h.SSHAddr()), dir: t.TempDir(), asker: &asker{}}
	r.target.User = user
	r.options = sshhost.Options{
		Home: r.dir, LocalUser: "nobody", Asker: r.asker,
		KnownHosts: []string{h.KnownHostsFile()}, IdentityFiles: []string{h.KeyFile()},
	}
	return r
}

// addUser makes a login that accepts the harness's key.
func addUser(t *testing.T, h *testhost.Host, name, shell, password string, more string) {
	t.Helper()
	h.Sh(t, `useradd -m -s `+shell+` `+name+` && echo `+name+`:`+password+` | chpasswd
mkdir -p /home/`+name+`/.ssh && cp /home/pi/.ssh/authorized_keys /home/`+name+`/.ssh/
chown -R `+name+`: /home/`+name+`/.ssh && chmod 700 /home/`+name+`/.ssh
`+more)
}

// sshdWith restarts sshd with more lines of configuration.
func sshdWith(t *testing.T, h *testhost.Host, lines string) {
	t.Helper()
	h.Sh(t, `mkdir -p /etc/ssh/sshd_config.d && printf '`+lines+`\n' > /etc/ssh/sshd_config.d/00-test.conf && sshd -t && systemctl reset-failed ssh; systemctl restart ssh`)
}

// afterwards undoes on the host what a subtest did to it.
func afterwards(t *testing.T, h *testhost.Host, script string) {
	t.Helper()
	t.Cleanup(func() {
		if out, err := h.Run(context.Background(), script); err != nil || out.ExitCode != 0 {
			t.Errorf("clean up with %s: %+v, %v", script, out, err)
		}
	})
}

// works is what must work whatever the way to root: a script with both
// streams, input, a file there and back, another user.
func works(t *testing.T, h *sshhost.Host) {
	t.Helper()
	r := run(t, h, "id -u; echo oops >&2; exit 5")
	if string(r.Stdout) != "0\n" || string(r.Stderr) != "oops\n" || r.ExitCode != 5 {
		t.Errorf("got %q, %q, %d", r.Stdout, r.Stderr, r.ExitCode)
	}
	content := strings.Repeat("a\x00\xff\r\n\x03\x04\x11", 30000)
	err := h.Put(t.Context(), hostcfg.Upload{Path: "/etc/fleetctl-test", Content: strings.NewReader(content), Mode: 0o600, Group: "adm"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := h.Get(t.Context(), "/etc/fleetctl-test", 1<<20)
	if err != nil || string(got) != content {
		t.Errorf("%d bytes came back of %d: %v", len(got), len(content), err)
	}
	u, err := h.Run(t.Context(), hostcfg.Command{User: "pi", Script: `id -un; pwd; echo "$HOME $XDG_RUNTIME_DIR"; cat`, Stdin: strings.NewReader("in")})
	if err != nil || string(u.Stdout) != "pi\n/home/pi\n/home/pi /run/user/1000\nin" {
		t.Errorf("as pi: %q %q %v", u.Stdout, u.Stderr, err)
	}
}

func TestRealLoginShells(t *testing.T) {
	host := testhost.Start(t, testhost.Options{})
	host.Sh(t, "apt-get update -q >/dev/null && apt-get install -y -q csh tcsh fish zsh >/dev/null")
	sudoers := func(name string) string {
		return "echo '" + name + " ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/" + name
	}
	for name, shell := range map[string]string{
		"u-csh": "/bin/bsd-csh", "u-tcsh": "/bin/tcsh", "u-fish": "/usr/bin/fish", "u-zsh": "/bin/zsh", "u-dash": "/bin/dash", "u-rbash": "/bin/rbash",
	} {
		t.Run(name, func(t *testing.T) {
			noise := `for f in .cshrc .tcshrc .bashrc .profile .zshenv .config/fish/config.fish; do
mkdir -p "$(dirname /home/` + name + `/$f)"; echo 'echo "Welcome home"; /bin/sh -c "echo complaint >&2"' >> /home/` + name + `/$f; done; chown -R ` + name + `: /home/` + name
			addUser(t, host, name, shell, "pw", sudoers(name)+"\n"+noise)
			works(t, realRig(t, host, name).dial(t))
		})
	}
	t.Run("nologin", func(t *testing.T) {
		addUser(t, host, "u-nologin", "/usr/sbin/nologin", "pw", "")
		_, err := realRig(t, host, "u-nologin").dial(t).Run(t.Context(), hostcfg.Command{Script: "true"})
		if err == nil || !strings.Contains(err.Error(), "not available") || hint.Of(err) == "" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("root", func(t *testing.T) { works(t, realRig(t, host, "root").dial(t)) })
}

func TestRealSudo(t *testing.T) {
	for _, suite := range []string{"bookworm", "trixie"} {
		t.Run(suite, func(t *testing.T) { testSudo(t, testhost.Start(t, testhost.Options{Suite: suite})) })
	}
}

func testSudo(t *testing.T, host *testhost.Host) {
	const password = "correct horse"
	addUser(t, host, "alice", "/bin/bash", "'"+password+"'", "usermod -aG sudo alice")
	addUser(t, host, "bob", "/bin/bash", "pw", "")
	refused := func(t *testing.T, r *rig, want string) {
		t.Helper()
		h := r.dial(t)
		start := time.Now()
		_, err := h.Run(t.Context(), hostcfg.Command{Script: "true"})
		if err == nil || !strings.Contains(err.Error(), want) || hint.Of(err) == "" {
			t.Fatalf("got %v (hint %q), want %q", err, hint.Of(err), want)
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("it took %s to say so", took)
		}
	}
	withPassword := func(t *testing.T, user, pw string) *rig {
		r := realRig(t, host, user)
		r.asker.answers = map[sshhost.QuestionKind][]string{sshhost.SudoPassword: {pw}}
		return r
	}
	t.Run("passwordless", func(t *testing.T) {
		r := realRig(t, host, "pi")
		works(t, r.dial(t))
		if len(r.asker.asked) > 0 {
			t.Errorf("asked %+v", r.asker.asked)
		}
	})
	t.Run("password", func(t *testing.T) {
		r := withPassword(t, "alice", password)
		works(t, r.dial(t))
		if len(r.asker.asked) != 1 {
			t.Errorf("asked %+v", r.asker.asked)
		}
		leaks := host.Sh(t, `grep -rl '`+password+`' /var/log /tmp /run/log /home 2>/dev/null; journalctl -q --no-pager | grep -c '`+password+`'; cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\0' '\n' | grep -v grep | grep -c '`+password+`' || true`)
		if leaks != "0\n0" && !strings.HasPrefix(leaks, "0\n") {
			t.Errorf("the password shows: %q", leaks)
		}
	})
	t.Run("wrong password", func(t *testing.T) {
		refused(t, withPassword(t, "alice", "wrong"), "wrong password")
		within(t, 3*time.Second, "no sudo is left", func() bool { return host.Sh(t, "pgrep -x sudo || true") == "" })
	})
	t.Run("nobody to ask", func(t *testing.T) {
		r := realRig(t, host, "alice")
		r.options.Asker = nil
		_, err := r.dial(t).Run(t.Context(), hostcfg.Command{Script: "true"})
		if hint.Code(err) != hint.CodeDeclined {
			t.Errorf("code %d: %v", hint.Code(err), err)
		}
	})
	t.Run("not in sudoers", func(t *testing.T) { refused(t, withPassword(t, "bob", "pw"), "may not use sudo") })
	t.Run("non-English prompt", func(t *testing.T) {
		host.Sh(t, `apt-get update -q >/dev/null && apt-get install -y -q locales >/dev/null; sed -i 's/# de_DE.UTF-8/de_DE.UTF-8/' /etc/locale.gen; locale-gen >/dev/null
echo LANG=de_DE.UTF-8 > /etc/default/locale; echo 'LC_ALL=de_DE.UTF-8' >> /etc/environment; echo 'Defaults passprompt="Geheimnis: ", passprompt_override' > /etc/sudoers.d/prompt`)
		afterwards(t, host, "rm /etc/sudoers.d/prompt; sed -i /LC_ALL/d /etc/environment")
		works(t, withPassword(t, "alice", password).dial(t))
		refused(t, withPassword(t, "alice", "falsch"), "wrong password")
	})
	t.Run("lecture", func(t *testing.T) {
		host.Sh(t, `echo 'Defaults lecture=always' > /etc/sudoers.d/lecture`)
		afterwards(t, host, "rm /etc/sudoers.d/lecture")
		works(t, withPassword(t, "alice", password).dial(t))
	})
	for _, extra := range []string{"requiretty", "requiretty, use_pty"} {
		t.Run(extra, func(t *testing.T) {
			host.Sh(t, `echo 'Defaults `+extra+`' > /etc/sudoers.d/tty`)
			afterwards(t, host, "rm /etc/sudoers.d/tty")
			works(t, realRig(t, host, "pi").dial(t))
			works(t, withPassword(t, "alice", password).dial(t))
			refused(t, withPassword(t, "alice", "wrong"), "wrong password")
		})
	}
	t.Run("use_pty", func(t *testing.T) {
		host.Sh(t, `echo 'Defaults use_pty, log_output' > /etc/sudoers.d/tty`)
		afterwards(t, host, "rm /etc/sudoers.d/tty")
		works(t, realRig(t, host, "pi").dial(t))
		works(t, withPassword(t, "alice", password).dial(t))
	})
	t.Run("no sudo", func(t *testing.T) {
		host.Sh(t, "mv /usr/bin/sudo /usr/bin/sudo.away")
		afterwards(t, host, "mv /usr/bin/sudo.away /usr/bin/sudo")
		refused(t, realRig(t, host, "pi"), "sudo is not installed")
	})
}

func TestRealServers(t *testing.T) {
	host := testhost.Start(t, testhost.Options{})
	t.Run("MaxSessions 1, no sftp, banner", func(t *testing.T) {
		host.Sh(t, "echo 'Authorised use only' > /etc/issue.net; sed -i '/^Subsystem/d' /etc/ssh/sshd_config")
		sshdWith(t, host, `MaxSessions 1\nBanner /etc/issue.net`)
		works(t, realRig(t, host, "pi").dial(t))
	})
	t.Run("keyboard-interactive only", func(t *testing.T) {
		host.Sh(t, "echo 'pi:raspberry' | chpasswd")
		sshdWith(t, host, `PubkeyAuthentication no\nPasswordAuthentication no\nKbdInteractiveAuthentication yes\nUsePAM yes`)
		r := realRig(t, host, "pi")
		r.asker.answers = map[sshhost.QuestionKind][]string{sshhost.Interactive: {"raspberry"}}
		works(t, r.dial(t))
	})
	t.Run("password only", func(t *testing.T) {
		sshdWith(t, host, `PubkeyAuthentication no\nPasswordAuthentication yes\nKbdInteractiveAuthentication no`)
		r := realRig(t, host, "pi")
		r.asker.answers = map[sshhost.QuestionKind][]string{sshhost.Password: {"guess", "raspberry"}}
		works(t, r.dial(t))
	})
	t.Run("changed host key", func(t *testing.T) {
		sshdWith(t, host, "")
		r := realRig(t, host, "pi")
		known, err := os.ReadFile(host.KnownHostsFile())
		if err != nil {
			t.Fatal(err)
		}
		mine := filepath.Join(r.dir, "known_hosts")
		if err := os.WriteFile(mine, append([]byte("# first line\n"), known...), 0o600); err != nil {
			t.Fatal(err)
		}
		host.Sh(t, "rm /etc/ssh/ssh_host_*; ssh-keygen -A >/dev/null; systemctl reset-failed ssh; systemctl restart ssh")
		r.options.KnownHosts = []string{mine}
		_, err = sshhost.Dial(t.Context(), r.target, r.options)
		if err == nil || hint.Code(err) != hint.CodeAuth || !strings.Contains(err.Error(), mine+" line ") || !strings.Contains(hint.Of(err), "ssh-keygen -f "+mine+" -R "+host.IP()) {
			t.Fatalf("got %v, hint %q", err, hint.Of(err))
		}
	})
}
