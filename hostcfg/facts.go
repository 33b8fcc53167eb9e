package hostcfg

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Facts are what a host is, as opposed to what it has. They are gathered in
// one round trip, together with the state that a plan looks at.
type Facts struct {
	Hostname       string    `json:"hostname"`
	MachineID      string    `json:"machineId"`
	BootID         string    `json:"bootId"`
	OS             OSRelease `json:"os"`
	Family         Family    `json:"family"`         // "" for an unknown distribution
	PackageManager string    `json:"packageManager"` // apt, dnf, apk, pacman, zypper or ""
	Kernel         string    `json:"kernel"`         // release, such as 6.1.0-18-arm64
	Machine        string    `json:"machine"`        // as uname -m says: x86_64, aarch64, armv7l
	Model          string    `json:"model"`          // device tree or DMI; "" when neither is there
	CPUs           int       `json:"cpus"`
	MemoryBytes    int64     `json:"memoryBytes"`
	AvailableBytes int64     `json:"availableBytes"` // memory that could be had without swapping
	DiskBytes      int64     `json:"diskBytes"`      // size of the file system that holds /var
	DiskFreeBytes  int64     `json:"diskFreeBytes"`
	Users          []string  `json:"users"`          // people: uid 1000–59999
	Init           string    `json:"init"`           // name of process 1: systemd, init, …
	SystemdVersion int       `json:"systemdVersion"` // 0 without systemd
	CgroupVersion  int       `json:"cgroupVersion"`  // 1 or 2; 0 when not mounted
	Controllers    []string  `json:"controllers"`    // of cgroup v2, such as memory
	CommandLine    string    `json:"-"`              // /proc/cmdline; kernels are told secrets there, too
	Sudo           string    `json:"sudo"`           // how we became root; "" when the host does not say
}

// GoArch is the machine in Go's terms (amd64, arm64, arm), or "" when no
// program of ours runs on it. A 32-bit system on a 64-bit kernel, usual on
// older Raspberry Pis, is not visible here.
func (f *Facts) GoArch() string {
	switch {
	case f.Machine == "x86_64" || f.Machine == "amd64":
		return "amd64"
	case f.Machine == "aarch64" || f.Machine == "arm64":
		return "arm64"
	case strings.HasPrefix(f.Machine, "armv6") || strings.HasPrefix(f.Machine, "armv7") || strings.HasPrefix(f.Machine, "armv8"):
		return "arm"
	}
	return ""
}

// IsRaspberryPi goes by the device tree's model.
func (f *Facts) IsRaspberryPi() bool { return strings.Contains(f.Model, "Raspberry Pi") }

// HasController says whether cgroup v2 offers a controller to the system.
func (f *Facts) HasController(name string) bool { return slices.Contains(f.Controllers, name) }

// Systemd says whether the host runs systemd now.
func (f *Facts) Systemd() bool { return f.SystemdVersion > 0 }

// Elevator is a Host that knows how its root access came about. Optional.
type Elevator interface {
	// Elevation is "root", "sudo" or "sudo with password".
	Elevation() string
}

// GatherFacts asks the host what it is, in one Run.
func GatherFacts(ctx context.Context, h Host) (*Facts, error) {
	s, err := look(ctx, h, newQuery())
	if err != nil {
		return nil, fmt.Errorf("gather facts of %s: %w", h.Name(), err)
	}
	return s.facts, nil
}

// factsScript leaves the package manager's name in $pm for later parts. It
// goes by the distribution, not by what is installed: Fedora has an apt, too.
func factsScript() string {
	return `sec os-release
if [ -r /etc/os-release ]; then cat /etc/os-release; else cat /usr/lib/os-release 2>/dev/null; fi
sec uname; uname -s; uname -n; uname -r; uname -m
ids=; for f in /etc/os-release /usr/lib/os-release; do
	[ -r "$f" ] && while IFS='=' read -r k v; do case $k in ID|ID_LIKE) ids="$ids $v" ;; esac; done <"$f" && break
done
pm=; case $ids in
` + managerCases() + `esac
command -v "$pm" >/dev/null 2>&1 || pm=
sec pm; printf '%s\n' "$pm"
line() { if [ -r "$2" ]; then x=; read -r x <"$2"; sec "$1"; printf '%s\n' "$x"; fi; }
line machine-id /etc/machine-id
line boot-id /proc/sys/kernel/random/boot_id
line init /proc/1/comm
line cmdline /proc/cmdline
if [ -r /proc/device-tree/model ]; then sec model; tr -d '\000' </proc/device-tree/model
elif [ -r /sys/class/dmi/id/product_name ]; then line model /sys/class/dmi/id/product_name; fi
sec meminfo; while read -r k v u; do case $k in MemTotal:|MemAvailable:) printf '%s %s\n' "$k" "$v" ;; esac; done </proc/meminfo
sec cpus; getconf _NPROCESSORS_ONLN 2>/dev/null || nproc
sec df; df -Pk /var
sec users; while IFS=: read -r n p u r; do [ "$u" -ge 1000 ] 2>/dev/null && [ "$u" -lt 60000 ] && printf '%s\n' "$n"; done </etc/passwd
if [ -d /run/systemd/system ]; then sec systemd; systemctl --version; fi
if [ -r /sys/fs/cgroup/cgroup.controllers ]; then line cgroup2 /sys/fs/cgroup/cgroup.controllers
elif [ -d /sys/fs/cgroup/memory ] || [ -d /sys/fs/cgroup/systemd ]; then sec cgroup1; fi
`
}

func parseFacts(sec map[string]string) *Facts {
	line := func(name string) string {
		first, _, _ := strings.Cut(sec[name], "\n")
		return strings.TrimSpace(first)
	}
	f := &Facts{
		OS:             ParseOSRelease(sec["os-release"]),
		PackageManager: line("pm"),
		MachineID:      line("machine-id"),
		BootID:         line("boot-id"),
		Init:           line("init"),
		CommandLine:    line("cmdline"),
		Model:          line("model"),
		Users:          strings.Fields(sec["users"]),
	}
	f.Family = f.OS.family()
	if u := strings.Split(sec["uname"], "\n"); len(u) >= 4 {
		f.Hostname, f.Kernel, f.Machine = u[1], u[2], u[3]
	}
	f.CPUs, _ = strconv.Atoi(line("cpus"))
	for _, l := range strings.Split(sec["meminfo"], "\n") {
		name, kib, _ := strings.Cut(l, " ")
		n, _ := strconv.ParseInt(kib, 10, 64)
		switch name {
		case "MemTotal:":
			f.MemoryBytes = n << 10
		case "MemAvailable:":
			f.AvailableBytes = n << 10
		}
	}
	f.parseDisk(sec["df"])
	if v := strings.Fields(line("systemd")); len(v) >= 2 && v[0] == "systemd" {
		f.SystemdVersion, _ = strconv.Atoi(v[1])
	}
	if c, ok := sec["cgroup2"]; ok {
		f.CgroupVersion, f.Controllers = 2, strings.Fields(c)
	} else if _, ok := sec["cgroup1"]; ok {
		f.CgroupVersion = 1
	}
	return f
}

// parseDisk reads df -Pk: a head line, then device, blocks, used, available.
func (f *Facts) parseDisk(df string) {
	lines := strings.Split(df, "\n")
	if len(lines) < 2 {
		return
	}
	if c := strings.Fields(lines[1]); len(c) >= 4 {
		total, _ := strconv.ParseInt(c[1], 10, 64)
		free, _ := strconv.ParseInt(c[3], 10, 64)
		f.DiskBytes, f.DiskFreeBytes = total<<10, free<<10
	}
}
