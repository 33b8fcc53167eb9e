// Package inventory finds out what the machine is. It owns where Linux says
// so; a fact that cannot be had is left empty, since no fact is worth an agent
// that does not start.
package inventory

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/nationtech/fleetctl/internal/wire"
)

// Collect reads the facts below root, which is "/" outside tests. stateDir is
// the directory whose file system DiskBytes is about; it is not below root.
func Collect(root, stateDir string) wire.Inventory {
	read := func(path string) string {
		data, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			return ""
		}
		return strings.TrimSpace(strings.Trim(string(data), "\x00"))
	}
	return wire.Inventory{
		Hostname:       read("proc/sys/kernel/hostname"),
		OS:             osRelease(read("etc/os-release"))["PRETTY_NAME"],
		Kernel:         read("proc/sys/kernel/osrelease"),
		Architecture:   runtime.GOARCH,
		Model:          model(read),
		CPUs:           runtime.NumCPU(),
		MemoryBytes:    memory(read("proc/meminfo")),
		DiskBytes:      disk(stateDir),
		BootID:         read("proc/sys/kernel/random/boot_id"),
		CgroupsVersion: cgroups(root),
	}
}

// model is what the device tree calls the board, or DMI the machine.
func model(read func(string) string) string {
	if m := read("proc/device-tree/model"); m != "" {
		return m
	}
	vendor, product := read("sys/class/dmi/id/sys_vendor"), read("sys/class/dmi/id/product_name")
	return strings.TrimSpace(vendor + " " + strings.TrimPrefix(product, vendor+" "))
}

// memory reads MemTotal of proc_meminfo(5), which is in kB, as bytes.
func memory(meminfo string) uint64 {
	lines := bufio.NewScanner(strings.NewReader(meminfo))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) >= 2 && fields[0] == "MemTotal:" {
			kib, err := strconv.ParseUint(fields[1], 10, 54)
			if err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}

func disk(dir string) uint64 {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0
	}
	return st.Blocks * uint64(st.Bsize)
}

func cgroups(root string) string {
	if _, err := os.Stat(filepath.Join(root, "sys/fs/cgroup/cgroup.controllers")); err == nil {
		return "v2"
	}
	if _, err := os.Stat(filepath.Join(root, "sys/fs/cgroup")); err == nil {
		return "v1"
	}
	return ""
}

// osRelease reads the assignments of os-release(5).
func osRelease(content string) map[string]string {
	out := map[string]string{}
	for line := range bytes.Lines([]byte(content)) {
		name, value, found := strings.Cut(strings.TrimSpace(string(line)), "=")
		if !found || strings.HasPrefix(name, "#") {
			continue
		}
		if len(value) >= 2 && (value[0] == '"' || value[0] == '\'') && value[len(value)-1] == value[0] {
			value = value[1 : len(value)-1]
		}
		out[name] = value
	}
	return out
}
