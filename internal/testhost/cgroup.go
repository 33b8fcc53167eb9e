package testhost

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// cgroupRoots are where a host's own cgroup is made: the cgroup 2 hierarchy,
// and systemd's named hierarchy where the machine still has version 1. Without
// a cgroup of its own two hosts share theirs, and one that clears user.slice
// clears the other's.
func cgroupRoots() ([]string, error) {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var roots []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// device, mount point, type, options
		field := strings.Fields(lines.Text())
		v2 := field[2] == "cgroup2"
		named := field[2] == "cgroup" && slices.Contains(strings.Split(field[3], ","), "name=systemd")
		if v2 || named {
			roots = append(roots, field[1])
		}
	}
	if len(roots) == 0 {
		return nil, errors.New("no cgroup 2 hierarchy is mounted, which hosts need")
	}
	return roots, nil
}

// makeCgroup makes the slot's cgroups, or ones at a path below, and returns
// their cgroup.procs files.
func (s slot) makeCgroup(below string) (procs []string, err error) {
	roots, err := cgroupRoots()
	if err != nil {
		return nil, err
	}
	for _, root := range roots {
		dir := filepath.Join(root, s.cgroup(), below)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("make the host's cgroup: %w", err)
		}
		procs = append(procs, filepath.Join(dir, "cgroup.procs"))
	}
	return procs, nil
}

// limitsProcesses says whether containers can be given a limit on processes:
// not where the machine has the pids controller in version 1.
func limitsProcesses() bool {
	roots, err := cgroupRoots()
	return err == nil && slices.ContainsFunc(roots, func(root string) bool {
		controllers, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
		return err == nil && slices.Contains(strings.Fields(string(controllers)), "pids")
	})
}

// enterCgroups makes a command that runs in the cgroups of these cgroup.procs
// files from its first instruction on.
func enterCgroups(ctx context.Context, procs []string, command ...string) *exec.Cmd {
	const script = `while [ "$1" != -- ]; do echo $$ >"$1" || exit; shift; done; shift; exec "$@"`
	args := append([]string{"-c", script, "sh"}, procs...)
	return exec.CommandContext(ctx, "sh", append(append(args, "--"), command...)...)
}

func (s slot) removeCgroup() error {
	roots, err := cgroupRoots()
	if err != nil {
		return err
	}
	// Whatever outlived PID 1, such as a script that was entering the host.
	// Version 1 has no such file.
	for _, root := range roots {
		kill, err := os.OpenFile(filepath.Join(root, s.cgroup(), "cgroup.kill"), os.O_WRONLY, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			_, err = kill.WriteString("1")
			err = errors.Join(err, kill.Close())
		}
		if err != nil {
			return fmt.Errorf("end the host's last processes: %w", err)
		}
	}
	for _, root := range roots {
		if err := removeCgroupTree(filepath.Join(root, s.cgroup())); err != nil {
			return err
		}
	}
	return nil
}

// removeCgroupTree removes a cgroup and those below it. The kernel is given a
// moment to forget processes that are dead already.
func removeCgroupTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeCgroupTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err := os.Remove(dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if !errors.Is(err, syscall.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("remove the host's cgroup: %w", err)
		}
	}
}
