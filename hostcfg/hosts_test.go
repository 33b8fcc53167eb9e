//go:build hosts

package hostcfg_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/hostcfg"
	"github.com/nationtech/fleetctl/hostcfg/hosttest"
	"github.com/nationtech/fleetctl/hostcfg/sshhost"
	"github.com/nationtech/fleetctl/internal/testhost"
)

// dial reaches a throw-away host as its ordinary user, with sudo.
func dial(t *testing.T, h *testhost.Host) *sshhost.Host {
	t.Helper()
	target, err := sshhost.ParseTarget(testhost.User + "@" + h.SSHAddr())
	if err != nil {
		t.Fatal(err)
	}
	host, err := sshhost.Dial(t.Context(), target, sshhost.Options{
		Home: t.TempDir(), LocalUser: "nobody", KnownHosts: []string{h.KnownHostsFile()}, IdentityFiles: []string{h.KeyFile()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = host.Close() })
	return host
}

const sleeper = "[Unit]\nDescription=Sleeps\n[Service]\nType=exec\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"

// device is like what onboarding wants of a host.
func device(config string) []hostcfg.Resource {
	return []hostcfg.Resource{
		hostcfg.Packages{Names: []string{"uidmap", "jq", "dbus-user-session"}},
		hostcfg.User{Name: "agent", System: true, Home: "/var/lib/agent", Comment: "Agent", SubIDs: true},
		hostcfg.Linger{User: "agent"},
		hostcfg.Directory{Path: "/etc/agent", Group: "agent", Mode: 0o750},
		hostcfg.File{Path: "/etc/agent/config.toml", Content: config, Group: "agent", Mode: 0o640},
		hostcfg.Block{Path: "/etc/hosts", Name: "fleet", Content: "192.0.2.1 nats"},
		hostcfg.Sysctl{Key: "net.ipv4.ip_unprivileged_port_start", Value: "80"},
		hostcfg.Symlink{Path: "/usr/local/bin/agent", Target: "/bin/sleep"},
		hostcfg.UserUnit{User: "agent", Name: "agent-user.service", Content: strings.Replace(sleeper, "multi-user", "default", 1), Enable: hostcfg.On, Run: hostcfg.On},
		hostcfg.SystemUnit{Name: "agent.service", Content: sleeper, Enable: hostcfg.On, Run: hostcfg.On, RestartOn: []string{"file:/etc/agent/config.toml"}},
	}
}

func noDevice() []hostcfg.Resource {
	return []hostcfg.Resource{
		hostcfg.SystemUnit{Name: "agent.service", Absent: true},
		hostcfg.UserUnit{User: "agent", Name: "agent-user.service", Absent: true},
		hostcfg.Linger{User: "agent", Absent: true},
		hostcfg.User{Name: "agent", Absent: true, RemoveHome: true},
		hostcfg.Absent{Path: "/etc/agent", Recursive: true},
		hostcfg.Absent{Path: "/usr/local/bin/agent"},
		hostcfg.Absent{Path: "/etc/sysctl.d/60-fleetctl-net.ipv4.ip_unprivileged_port_start.conf"},
		hostcfg.Block{Path: "/etc/hosts", Name: "fleet"},
	}
}

const treeHash = `find /etc /usr/local /home /root /var/lib/agent -xdev \( -type f -exec sha256sum {} + \) -o -printf '%p %m %u %T@ %l\n' 2>/dev/null | grep -v /etc/mtab | sort | sha256sum`

func plan(t *testing.T, h hostcfg.Host, resources []hostcfg.Resource) *hostcfg.Plan {
	t.Helper()
	p, err := hostcfg.MakePlan(t.Context(), h, resources)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func apply(t *testing.T, h hostcfg.Host, p *hostcfg.Plan) *hostcfg.Outcome {
	t.Helper()
	out, err := p.Apply(t.Context(), h, hostcfg.ApplyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRealHosts(t *testing.T) {
	for _, suite := range []string{"bookworm", "trixie"} {
		t.Run(suite, func(t *testing.T) {
			real := testhost.Start(t, testhost.Options{Suite: suite})
			host := dial(t, real)
			lifecycle(t, real, host)
		})
	}
}

func lifecycle(t *testing.T, real *testhost.Host, host *sshhost.Host) {
	before := real.Sh(t, treeHash)
	first := plan(t, hosttest.ReadOnly(host), device("a = 1\n"))
	if after := real.Sh(t, treeHash); after != before {
		t.Error("planning changed the host")
	}
	if !first.Facts.Systemd() || first.Facts.Family != hostcfg.Debian || first.Facts.CgroupVersion != 2 || first.Facts.Init != "systemd" {
		t.Errorf("facts: %+v", first.Facts)
	}
	if first.ChangeCount() != 10 {
		t.Errorf("first plan changes %d of 10", first.ChangeCount())
	}
	out := apply(t, host, first)
	for _, st := range out.Steps {
		t.Logf("%-60s %.3f s", st.ID, st.Seconds)
	}
	real.Sh(t, `systemctl is-active agent.service; systemctl is-enabled agent.service; loginctl show-user agent -p Linger | grep yes
systemd-analyze verify /etc/systemd/system/agent.service
uid=$(id -u agent); runuser -u agent -- env XDG_RUNTIME_DIR=/run/user/$uid systemctl --user is-active agent-user.service
runuser -u agent -- env XDG_RUNTIME_DIR=/run/user/$uid systemctl --user is-enabled agent-user.service
[ "$(sysctl -n net.ipv4.ip_unprivileged_port_start)" = 80 ]; grep -q '^agent:' /etc/subuid; jq --version; [ -z "$(ls /run/fleetctl/pending)" ]`)

	before = real.Sh(t, treeHash)
	start := time.Now()
	second := plan(t, hosttest.ReadOnly(host), device("a = 1\n"))
	t.Logf("ten resources with nothing to change: %s", time.Since(start))
	if second.Changed() {
		var b bytes.Buffer
		_ = second.WriteText(&b, hostcfg.TextOptions{})
		t.Errorf("second plan:\n%s", b.String())
	}
	apply(t, hosttest.ReadOnly(host), second)
	if after := real.Sh(t, treeHash); after != before {
		t.Error("the second run changed the host")
	}

	pid := real.Sh(t, "systemctl show -P MainPID agent.service")
	third := plan(t, host, device("a = 2\n"))
	if third.ChangeCount() != 2 || !third.Step("unit:agent.service").Changed() {
		t.Errorf("a changed file: %d changes", third.ChangeCount())
	}
	apply(t, host, third)
	if real.Sh(t, "systemctl show -P MainPID agent.service") == pid {
		t.Error("the unit was not restarted")
	}

	cutOff(t, real, host)

	apply(t, host, plan(t, host, noDevice()))
	if again := plan(t, host, noDevice()); again.Changed() {
		t.Errorf("removing twice: %+v", again.Steps)
	}
	real.Sh(t, `! getent passwd agent; ! grep agent /etc/subuid /etc/subgid; [ ! -e /etc/agent ]; [ ! -e /var/lib/agent ]
! grep fleetctl /etc/hosts; [ ! -e /etc/systemd/system/agent.service ]; ! systemctl is-active agent.service
[ ! -e /etc/systemd/system/multi-user.target.wants/agent.service ]; [ ! -e /var/lib/systemd/linger/agent ]; ! ps -u agent 2>/dev/null`)
}

// cutOff loses the connection between a file and the unit that reads it. The
// next plan restarts the unit although the file is right by then.
func cutOff(t *testing.T, real *testhost.Host, host *sshhost.Host) {
	t.Helper()
	p := plan(t, host, device("a = 3\n"))
	ctx, cancel := context.WithCancel(t.Context())
	_, err := p.Apply(ctx, host, hostcfg.ApplyOptions{OnStep: func(e hostcfg.StepEvent) {
		if e.Step.ID == "file:/etc/agent/config.toml" && e.Done {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("cut off: %v", err)
	}
	if err := host.Reconnect(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := plan(t, host, device("a = 3\n"))
	if again.ChangeCount() != 1 || !again.Step("unit:agent.service").Changed() {
		t.Errorf("after the cut: %d changes", again.ChangeCount())
	}
	apply(t, host, again)
	if last := plan(t, host, device("a = 3\n")); last.Changed() {
		t.Error("does not converge")
	}
	if real.Sh(t, "ls /run/fleetctl/pending") != "" {
		t.Error("marker left behind")
	}
}

func TestRealUnitThatFails(t *testing.T) {
	real := testhost.Start(t, testhost.Options{})
	host := dial(t, real)
	bad := hostcfg.SystemUnit{Name: "bad.service", Run: hostcfg.On,
		Content: "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo out of cheese >&2; exit 3'\n"}
	_, err := plan(t, host, []hostcfg.Resource{bad}).Apply(t.Context(), host, hostcfg.ApplyOptions{})
	if err == nil || !strings.Contains(err.Error(), "out of cheese") || !strings.Contains(err.Error(), `result "failed"`) {
		t.Errorf("over D-Bus: %v", err)
	}
	noBus := struct{ hostcfg.Host }{host} // hides the capabilities
	_, err = plan(t, noBus, []hostcfg.Resource{bad}).Apply(t.Context(), noBus, hostcfg.ApplyOptions{})
	if err == nil || !strings.Contains(err.Error(), "out of cheese") {
		t.Errorf("with systemctl: %v", err)
	}
}

func TestRealReboot(t *testing.T) {
	real := testhost.Start(t, testhost.Options{})
	host := dial(t, real)
	boot := real.Sh(t, "cat /proc/sys/kernel/random/boot_id")
	real.Sh(t, "mkdir -p /boot/firmware; echo 'console=tty1 root=x' >/boot/firmware/cmdline.txt")
	wanted := []hostcfg.Resource{
		hostcfg.KernelArg{Arg: "cgroup_enable=memory"},
		hostcfg.Reboot{On: []string{"kernel-arg:cgroup_enable=memory"}, Timeout: 2 * time.Minute},
	}
	apply(t, host, plan(t, host, wanted))
	if real.Sh(t, "cat /proc/sys/kernel/random/boot_id") == boot {
		t.Error("the host has not rebooted")
	}
	if again := plan(t, host, wanted); again.Changed() {
		t.Errorf("second plan: %+v", again.Steps)
	}
}

// useradd writes passwd, shadow and group one after the other. What was cut off in
// between is completed.
func TestAccountThatWasCutOff(t *testing.T) {
	real := testhost.Start(t, testhost.Options{Suite: "trixie"})
	host := dial(t, real)
	want := []hostcfg.Resource{
		hostcfg.User{Name: "agent", System: true, Home: "/var/lib/agent", SubIDs: true},
		hostcfg.Directory{Path: "/etc/agent", Group: "agent", Mode: 0o750},
	}
	apply(t, host, plan(t, host, want))
	for _, files := range []string{"/etc/group /etc/gshadow", "/etc/shadow /etc/group /etc/gshadow"} {
		id := real.Sh(t, "id agent")
		real.Sh(t, "rm -r /etc/agent && sed -i '/^agent:/d' "+files)
		apply(t, host, plan(t, host, want))
		if got := real.Sh(t, "id agent"); got != id {
			t.Errorf("without its lines in %s it became %s, was %s", files, got, id)
		}
		if got := real.Sh(t, "getent shadow agent | cut -d: -f1; stat -c %G /etc/agent"); got != "agent\nagent" {
			t.Errorf("without its lines in %s: %s", files, got)
		}
		if again := plan(t, host, want); again.ChangeCount() != 0 {
			t.Errorf("without its lines in %s it does not converge", files)
		}
	}
}
