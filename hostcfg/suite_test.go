package hostcfg_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nationtech/fleetctl/hostcfg"
	"github.com/nationtech/fleetctl/hostcfg/hosttest"
)

const service = "[Unit]\nDescription=Test\n[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"

func TestResourceSuite(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "agent")
	if err := os.WriteFile(binary, []byte(strings.Repeat("\x00\x01binary", 40_000)), 0o644); err != nil {
		t.Fatal(err)
	}
	withSystemd := hosttest.ScratchOptions{Systemd: true}
	cases := []hosttest.Case{
		{
			Name:      "group",
			Resources: []hostcfg.Resource{hostcfg.Group{Name: "fleet", System: true}, hostcfg.Group{Name: "other", GID: 4711}},
			After:     `getent group fleet; [ "$(getent group other)" = other:x:4711: ]`,
		},
		{
			Name:      "group absent",
			Before:    "groupadd fleet",
			Resources: []hostcfg.Resource{hostcfg.Group{Name: "fleet", Absent: true}},
			After:     "! getent group fleet",
		},
		{
			Name: "user",
			Resources: []hostcfg.Resource{hostcfg.User{
				Name: "agent", System: true, Home: "/home/agent", Shell: "/bin/sh", Comment: "Fleet agent", Groups: []string{"adm"}, SubIDs: true,
			}},
			After: `getent passwd agent | grep ':Fleet agent:/home/agent:/bin/sh$'; id -nG agent | grep -w adm
[ "$(cat /etc/subuid)" = "pi:100000:65536
agent:165536:65536" ]
[ "$(grep agent: /etc/subgid)" = agent:165536:65536 ]; [ "$(stat -c %U /home/agent)" = agent ]`,
		},
		{
			Name:   "user modified",
			Before: "useradd -r -s /bin/false -M -K SUB_UID_COUNT=0 -K SUB_GID_COUNT=0 agent; rm /etc/subgid",
			Resources: []hostcfg.Resource{hostcfg.User{
				Name: "agent", Home: "/var/lib/agent", Shell: "/bin/sh", Comment: "Agent", Groups: []string{"adm"}, Group: "pi", SubIDs: true,
			}},
			After: `[ "$(getent passwd agent | cut -d: -f4-)" = 1000:Agent:/var/lib/agent:/bin/sh ]; grep agent:100000:65536 /etc/subgid`,
		},
		{
			Name:      "user absent",
			Before:    "useradd -m -d /home/agent agent; touch /home/agent/x",
			Resources: []hostcfg.Resource{hostcfg.User{Name: "agent", Absent: true, RemoveHome: true}},
			After:     "! getent passwd agent; ! grep agent /etc/subuid; [ ! -e /home/agent ]",
		},
		{
			Name: "directory and file",
			Resources: []hostcfg.Resource{
				hostcfg.Directory{Path: "/etc/agent", Group: "pi", Mode: 0o750},
				hostcfg.File{Path: "/etc/agent/it's $HOME.toml", Content: "a = 'b'\n%s \\n\n\tÜ", Group: "pi", Mode: 0o640},
				hostcfg.File{Path: "/etc/agent/secret", Content: "s3cret", Owner: "pi", Mode: 0o400, Sensitive: true},
				hostcfg.File{Path: "/etc/agent/empty"},
			},
			After: `[ "$(stat -c '%a %U %G' /etc/agent)" = "750 root pi" ]
[ "$(stat -c '%a %U %G' "/etc/agent/it's \$HOME.toml")" = "640 root pi" ]
printf 'a = '\''b'\''\n%%s \\n\n\tÜ' | cmp - "/etc/agent/it's \$HOME.toml"
[ "$(stat -c '%a %U %s' /etc/agent/secret)" = "400 pi 6" ]; [ "$(stat -c '%a %s' /etc/agent/empty)" = "644 0" ]`,
		},
		{
			Name:   "file changed",
			Before: "printf 'one\\ntwo\\n' >/etc/conf; chown pi /etc/conf; chmod 600 /etc/conf; printf same >/etc/same; mkdir -m 700 /etc/dir; chown pi /etc/dir",
			Resources: []hostcfg.Resource{
				hostcfg.File{Path: "/etc/conf", Content: "one\nthree\n"},
				hostcfg.File{Path: "/etc/same", Content: "same", Owner: "1000", Group: "1000", Mode: 0o4755},
				hostcfg.Directory{Path: "/etc/dir", Mode: 0o1777},
			},
			After: `[ "$(stat -c '%a %U' /etc/conf)" = "644 root" ]; grep three /etc/conf
[ "$(stat -c '%a %U' /etc/same)" = "4755 pi" ]; [ "$(stat -c '%a %U' /etc/dir)" = "1777 root" ]`,
		},
		{
			Name:      "file in place of a link",
			Before:    "echo shadow >/etc/target; ln -s target /etc/conf",
			Resources: []hostcfg.Resource{hostcfg.File{Path: "/etc/conf", Content: "x\n"}},
			After:     "[ ! -L /etc/conf ]; grep shadow /etc/target",
		},
		{
			Name: "streamed file",
			Resources: []hostcfg.Resource{
				hostcfg.Directory{Path: "/usr/local/lib/agent"},
				hostcfg.File{Path: "/usr/local/lib/agent/agent", Source: binary, Mode: 0o755},
				hostcfg.File{Path: "/etc/nul", Content: "a\x00b"},
			},
			After: `[ "$(stat -c '%a %s' /usr/local/lib/agent/agent)" = "755 320000" ]; [ "$(stat -c %s /etc/nul)" = 3 ]`,
		},
		{
			Name:   "symlink",
			Before: "mkdir /etc/old; ln -s old /etc/current",
			Resources: []hostcfg.Resource{
				hostcfg.Symlink{Path: "/etc/current", Target: "new"},
				hostcfg.Symlink{Path: "/usr/local/bin/agent", Target: "/usr/local/lib/a b/agent"},
			},
			After: `[ "$(readlink /etc/current)" = new ]; [ -z "$(ls /etc/old)" ]; [ "$(readlink /usr/local/bin/agent)" = "/usr/local/lib/a b/agent" ]`,
		},
		{
			Name:   "absent",
			Before: "mkdir -p /var/lib/agent/a/b /etc/empty; echo x >/var/lib/agent/a/b/c; echo gone >/etc/conf; ln -s / /etc/link; touch /etc/.conf.fleetctl-new",
			Resources: []hostcfg.Resource{
				hostcfg.Absent{Path: "/etc/conf"}, hostcfg.Absent{Path: "/etc/link"}, hostcfg.Absent{Path: "/etc/empty"},
				hostcfg.Absent{Path: "/var/lib/agent", Recursive: true}, hostcfg.Absent{Path: "/etc/never"},
			},
			After: "[ ! -e /etc/conf ] && [ ! -L /etc/link ] && [ ! -e /etc/empty ] && [ ! -e /var/lib/agent ] && [ -d /etc ]",
		},
		{
			Name:   "blocks",
			Before: "printf '127.0.0.1 localhost' >/etc/hosts; chown pi:adm /etc/hosts; chmod 664 /etc/hosts",
			Resources: []hostcfg.Resource{
				hostcfg.Block{Path: "/etc/hosts", Name: "server", Content: "192.0.2.1 nats"},
				hostcfg.Block{Path: "/etc/hosts", Name: "registry", Content: "192.0.2.2 registry\n"},
			},
			After: `[ "$(cat /etc/hosts)" = "127.0.0.1 localhost
# BEGIN fleetctl server
192.0.2.1 nats
# END fleetctl server
# BEGIN fleetctl registry
192.0.2.2 registry
# END fleetctl registry" ]; [ "$(stat -c '%a %U %G' /etc/hosts)" = "664 pi adm" ]`,
		},
		{
			Name:      "block removed",
			Before:    "printf 'a\\n# BEGIN fleetctl x\\nb\\n# END fleetctl x\\nc\\n' >/etc/hosts",
			Resources: []hostcfg.Resource{hostcfg.Block{Path: "/etc/hosts", Name: "x"}},
			After: `[ "$(cat /etc/hosts)" = "a
c" ]`,
		},
		{
			Name:      "kernel argument",
			Before:    "mkdir -p /boot/firmware; printf 'console=tty1 cgroup_disable=memory rootwait\\n' >/boot/firmware/cmdline.txt",
			Resources: []hostcfg.Resource{hostcfg.KernelArg{Arg: "cgroup_enable=memory"}, hostcfg.KernelArg{Arg: "cgroup_memory=1"}},
			After:     `[ "$(cat /boot/firmware/cmdline.txt)" = "console=tty1 rootwait cgroup_enable=memory cgroup_memory=1" ]`,
		},
		{
			// The kernel's name stands for a parameter that is right already:
			// there is one kernel, and it is not ours to change here.
			Name:      "sysctl",
			Resources: []hostcfg.Resource{hostcfg.Sysctl{Key: "kernel.ostype", Value: "Linux"}},
			After:     `[ "$(cat /etc/sysctl.d/60-fleetctl-kernel.ostype.conf)" = "kernel.ostype = Linux" ]`,
			Before:    "mkdir /etc/sysctl.d",
		},
		{
			Name: "unit with its file", Host: withSystemd,
			Resources: []hostcfg.Resource{
				hostcfg.File{Path: "/etc/agent.conf", Content: "x"},
				hostcfg.SystemUnit{Name: "agent.service", Content: service, Enable: hostcfg.On, Run: hostcfg.On, RestartOn: []string{"file:/etc/agent.conf"}},
			},
			After: "systemctl show -p x -- agent.service | grep -x ActiveState=active; systemctl show -p x -- agent.service | grep -x UnitFileState=enabled",
		},
		{
			Name: "unit restarted", Host: withSystemd,
			Before: "touch /etc/systemd/system/agent.service /etc/agent.conf; systemctl enable -- agent.service; systemctl start -- agent.service; rm /var/lib/units/jobs",
			Resources: []hostcfg.Resource{
				hostcfg.File{Path: "/etc/agent.conf", Content: "x"},
				hostcfg.SystemUnit{Name: "agent.service", Enable: hostcfg.On, Run: hostcfg.On, RestartOn: []string{"file:/etc/agent.conf"}},
			},
			After: `grep -x 'system restart agent.service' /var/lib/units/jobs; [ ! /var/lib/units/jobs -ot /etc/agent.conf ]`,
		},
		{
			Name: "unit absent", Host: withSystemd,
			Before:    "touch /etc/systemd/system/agent.service; systemctl enable -- agent.service; systemctl start -- agent.service",
			Resources: []hostcfg.Resource{hostcfg.SystemUnit{Name: "agent.service", Absent: true}},
			After:     "[ ! -e /etc/systemd/system/agent.service ]; systemctl show -p x -- agent.service | grep -x ActiveState=inactive",
		},
		{
			Name: "unit stopped", Host: withSystemd,
			Before:    "touch /var/lib/units/x.timer; systemctl enable -- x.timer; systemctl start -- x.timer",
			Resources: []hostcfg.Resource{hostcfg.SystemUnit{Name: "x.timer", Enable: hostcfg.Off, Run: hostcfg.Off}},
			After:     "systemctl show -p x -- x.timer | grep -x ActiveState=inactive; systemctl show -p x -- x.timer | grep -x UnitFileState=disabled",
		},
		{
			Name: "lingering user with a unit", Host: withSystemd,
			Before: "touch /var/lib/units/podman.socket",
			Resources: []hostcfg.Resource{
				hostcfg.User{Name: "agent", System: true, SubIDs: true},
				hostcfg.Linger{User: "agent"},
				hostcfg.UserUnit{User: "agent", Name: "podman.socket", Enable: hostcfg.On, Run: hostcfg.On},
				hostcfg.UserUnit{User: "agent", Name: "own.service", Content: service, Enable: hostcfg.On, Run: hostcfg.On},
			},
			After: "[ -e /var/lib/systemd/linger/agent ]; systemctl --user show -p x -- podman.socket own.service | grep -c ActiveState=active | grep -x 2",
		},
		{
			Name: "lingering absent", Host: withSystemd,
			Before:    "loginctl enable-linger pi",
			Resources: []hostcfg.Resource{hostcfg.Linger{User: "pi", Absent: true}},
			After:     "[ ! -e /var/lib/systemd/linger/pi ]",
		},
	}
	hosttest.Suite(t, cases)
	for i := range cases {
		cases[i].Name += ", busybox"
		cases[i].Host.Busybox = true
	}
	hosttest.Suite(t, cases)
}
