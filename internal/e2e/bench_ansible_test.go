//go:build hosts

package e2e

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/testhost"
)

// onboardPlaybook is onboarding as someone fluent in Ansible writes it.
//
//go:embed testdata/onboard.yaml
var onboardPlaybook []byte

// playbook runs Ansible on one host from a directory of its own.
type playbook struct{ dir, controlPaths string }

// newPlaybook installs what Ansible needs on the host, and takes the contents
// of its files from there: there is nothing to change from the first run on.
func newPlaybook(b *testing.B, h *testhost.Host) playbook {
	b.Helper()
	if _, err := exec.LookPath("ansible-playbook"); err != nil {
		b.Skipf("SKIPPED, NOT MEASURED: Ansible is not installed (%v); run: scripts/setup bench", err)
	}
	h.Sh(b, "apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends python3 python3-apt")
	p := playbook{dir: b.TempDir()}
	var err error
	// Short: it holds Unix sockets.
	if p.controlPaths, err = os.MkdirTemp("", "cp"); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { p.close(b) })
	binary := h.Sh(b, "readlink /usr/local/bin/fleet-agent")
	for name, on := range map[string]string{
		"fleet-agent":         binary,
		"config.toml":         "/etc/fleet-agent/config.toml",
		"fleet-agent.service": "/etc/systemd/system/fleet-agent.service",
		"psk":                 "/etc/fleet-agent/psk",
		"signing-keys.json":   "/etc/fleet-agent/signing-keys.json",
		"ca.pem":              "/etc/fleet-agent/ca.pem",
	} {
		data, err := os.ReadFile(filepath.Join(h.Root(), on))
		if err != nil {
			b.Fatal(err)
		}
		p.write(b, name, data)
	}
	p.write(b, "onboard.yaml", onboardPlaybook)
	p.write(b, "hosts", fmt.Appendf(nil, "%s ansible_user=pi ansible_ssh_private_key_file=%s ansible_ssh_extra_args='-o UserKnownHostsFile=%s' binary=%s uid=%s subuid=%s subgid=%s\n",
		h.IP(), h.KeyFile(), h.KnownHostsFile(), binary, h.Sh(b, "id -u fleet-agent"),
		h.Sh(b, "grep ^fleet-agent: /etc/subuid"), h.Sh(b, "grep ^fleet-agent: /etc/subgid")))
	// All else is as it comes: ControlPersist among it.
	p.write(b, "ansible.cfg", fmt.Appendf(nil, "[defaults]\ninventory = hosts\n[ssh_connection]\npipelining = true\ncontrol_path_dir = %s\n", p.controlPaths))
	return p
}

func (p playbook) write(b *testing.B, name string, data []byte) {
	b.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), data, 0o600); err != nil {
		b.Fatal(err)
	}
}

// scope is how much of the playbook runs.
type scope struct {
	tasks int // with gathering the facts
	args  []string
}

var (
	tenTasks = scope{tasks: 11, args: []string{"--skip-tags", "rest"}}
	allTasks = scope{tasks: 18}
)

// nothingToChange runs the playbook and insists that every task found all as
// it should be.
func (p playbook) nothingToChange(b *testing.B, s scope) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ansible-playbook", append([]string{"onboard.yaml"}, s.args...)...)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK=", "LC_ALL=C.UTF-8", "HOME="+p.dir)
	out, err := cmd.CombinedOutput()
	unchanged := regexp.MustCompile(fmt.Sprintf(`ok=%d +changed=0 +unreachable=0 +failed=0 +skipped=0`, s.tasks))
	if err != nil || !unchanged.Match(out) {
		b.Fatalf("ansible-playbook: %v\n%s", err, out)
	}
}

// close ends the connections that ControlPersist keeps.
func (p playbook) close(b *testing.B) {
	sockets, err := filepath.Glob(filepath.Join(p.controlPaths, "*"))
	if err != nil {
		b.Error(err)
	}
	for _, s := range sockets {
		out, err := exec.Command("ssh", "-o", "ControlPath="+s, "-O", "exit", "host").CombinedOutput()
		if err != nil && !strings.Contains(string(out), "No such file") {
			b.Errorf("end Ansible's connection: %v: %s", err, out)
		}
	}
	if err := os.RemoveAll(p.controlPaths); err != nil {
		b.Error(err)
	}
}
