package memory

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// machineBytes is the memory that this process has at most: the machine's, or
// less where its control group or one above it has a limit.
func machineBytes() (bytes uint64, known bool) {
	meminfo, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, false
	}
	if bytes, known = total(string(meminfo)); !known {
		return 0, false
	}
	group, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return bytes, true
	}
	return min(bytes, groupLimit("/sys/fs/cgroup", string(group), bytes)), true
}

// total is MemTotal of proc_meminfo(5).
func total(meminfo string) (bytes uint64, known bool) {
	for line := range strings.Lines(meminfo) {
		if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			kib, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10, err == nil
		}
	}
	return 0, false
}

// groupLimit is the least memory.max (cgroups(7), version 2) from the group of
// /proc/self/cgroup up to root; otherwise when none has one.
func groupLimit(root, group string, otherwise uint64) uint64 {
	_, path, unified := strings.Cut(strings.TrimSpace(group), "0::")
	if !unified {
		return otherwise
	}
	path, _, _ = strings.Cut(path, "\n")
	for dir := filepath.Clean("/" + path); ; dir = filepath.Dir(dir) {
		if data, err := os.ReadFile(filepath.Join(root, dir, "memory.max")); err == nil {
			if bytes, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64); err == nil { // else "max"
				otherwise = min(otherwise, bytes)
			}
		}
		if dir == "/" {
			return otherwise
		}
	}
}
