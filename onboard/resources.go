package onboard

import (
	"path"

	"github.com/nationtech/fleetctl/hostcfg"
	"github.com/nationtech/fleetctl/internal/deviceconfig"
)

// packages are what rootless Podman needs, by Debian's names. Recommended
// packages are not installed, so everything is named: slirp4netns is what
// connects containers before Podman 5, and passt from then on.
var packages = []string{
	"ca-certificates", "dbus-user-session", "podman", "crun", "uidmap", "slirp4netns", "passt", "fuse-overlayfs", "catatonit",
}

// containersDir holds the agent's user's settings of Podman.
const containersDir = Home + "/.config/containers"

// containersConf has Podman keep its events in a file in memory, for the agent
// to hear of every change at once. From the journal, the default, a system
// user cannot read them.
const containersConf = `# Written by fleetctl onboard.
[engine]
events_logger = "file"
`

// VersionedBinary is where a version of the agent is installed, so that an
// upgrade adds one and moves the link.
func VersionedBinary(version string) string { return path.Join(LibDir, version, "fleet-agent") }

// Resources are what the host has when it is the device, in order.
func (d *Device) Resources() ([]hostcfg.Resource, error) {
	if err := d.validate(); err != nil {
		return nil, err
	}
	config, err := d.ConfigText()
	if err != nil {
		return nil, err
	}
	binary := hostcfg.File{Path: VersionedBinary(d.AgentVersion), Source: d.AgentBinary, Mode: 0o755}
	link := hostcfg.Symlink{Path: Binary, Target: binary.Path}
	files := []hostcfg.Resource{
		hostcfg.File{Path: ConfigFile, Content: config, Group: User, Mode: 0o640},
		hostcfg.File{Path: deviceconfig.KeysFile, Content: string(d.Enrolment.SigningKeys), Owner: User, Group: User, Mode: 0o400},
	}
	if d.Enrolment.Issuer.URL == "" {
		files = append(files, hostcfg.File{Path: deviceconfig.PSKFile, Content: string(d.Enrolment.PSK), Owner: User, Group: User, Mode: 0o400, Sensitive: true})
	} else {
		files = append(files, hostcfg.Absent{Path: deviceconfig.PSKFile})
	}
	if d.config().IssuerCA() == deviceconfig.IssuerCAFile {
		files = append(files, hostcfg.File{Path: deviceconfig.IssuerCAFile, Content: d.Enrolment.Issuer.CAPEM})
	}
	if d.Enrolment.CAPEM != "" {
		files = append(files, hostcfg.File{Path: deviceconfig.CAFile, Content: d.Enrolment.CAPEM})
	}
	account := hostcfg.User{
		Name: User, System: true, Comment: "fleet agent and its containers",
		Home: Home, Shell: "/usr/sbin/nologin", SubIDs: true,
	}
	unit := hostcfg.SystemUnit{Name: Unit, Content: unitText, Enable: hostcfg.On, Run: hostcfg.On, RestartOn: []string{binary.ID(), link.ID()}}
	if d.keys.restart {
		unit.RestartOn = append(unit.RestartOn, d.keys.ID())
	}
	for _, f := range files {
		unit.RestartOn = append(unit.RestartOn, f.ID())
	}

	var all []hostcfg.Resource
	if len(d.HostEntries) > 0 {
		// First: packages may come from a host that only this file names.
		all = append(all, hostcfg.Block{Path: hostsFile, Name: hostsBlock, Content: d.hostsLines()})
	}
	all = append(all,
		hostcfg.Packages{Name: "podman", Names: packages},
		account,
		hostcfg.Directory{Path: path.Dir(containersDir), Owner: User, Group: User, Mode: 0o700},
		hostcfg.Directory{Path: containersDir, Owner: User, Group: User, Mode: 0o700},
		hostcfg.File{Path: path.Join(containersDir, "containers.conf"), Content: containersConf, Owner: User, Group: User, Mode: 0o644},
		hostcfg.Linger{User: User},
		hostcfg.UserUnit{User: User, Name: podmanSocket, Enable: hostcfg.On, Run: hostcfg.On},
		hostcfg.Directory{Path: LibDir},
		hostcfg.Directory{Path: path.Dir(binary.Path)},
		binary,
		link,
		hostcfg.Directory{Path: ConfigDir, Group: User, Mode: 0o750},
	)
	all = append(all, d.keys.Task)
	all = append(all, files...)
	return append(append(all, memoryLimits()...), unit), nil
}

// memoryLimits turns on the cgroup controller without which containers have no
// memory limits: Raspberry Pi OS boots with it off.
func memoryLimits() []hostcfg.Resource {
	missing := func(f *hostcfg.Facts) bool {
		return f.IsRaspberryPi() && f.CgroupVersion == 2 && !f.HasController("memory")
	}
	enable := hostcfg.KernelArg{Arg: "cgroup_enable=memory"}
	return []hostcfg.Resource{
		hostcfg.When(missing, enable),
		hostcfg.When(missing, hostcfg.Reboot{Name: "memory-limits", On: []string{enable.ID()}}),
	}
}

// Removal is what is left of a device when it is a plain host again: nothing
// that onboarding made, except packages, which others may use by now, and a
// kernel argument that is harmless.
func Removal() []hostcfg.Resource {
	return []hostcfg.Resource{
		hostcfg.SystemUnit{Name: Unit, Absent: true},
		hostcfg.Linger{User: User, Absent: true},
		hostcfg.User{Name: User, Home: Home, Absent: true, RemoveHome: true},
		hostcfg.Group{Name: User, Absent: true},
		hostcfg.Absent{Path: Binary},
		hostcfg.Absent{Path: LibDir, Recursive: true},
		hostcfg.Absent{Path: ConfigDir, Recursive: true},
		hostcfg.Block{Path: hostsFile, Name: hostsBlock},
	}
}
