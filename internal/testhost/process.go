package testhost

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process names one process for good: a pid is used again, a pid with its
// start time is not.
type process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot, field 22 of /proc/PID/stat
}

func processOf(pid int) (process, error) {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return process{}, err
	}
	// The name in field 2 may hold anything, so count from its end.
	_, rest, ok := strings.Cut(string(data[strings.LastIndexByte(string(data), ')'):]), " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return process{}, fmt.Errorf("read the start time of process %d: unexpected format", pid)
	}
	if fields[0] == "Z" {
		return process{}, fmt.Errorf("process %d: %w", pid, os.ErrProcessDone)
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	return process{PID: pid, Start: start}, err
}

// recorded reads what record wrote; a missing or torn record names no process.
func recorded(path string) process {
	var p process
	if data, err := os.ReadFile(path); err == nil && json.Unmarshal(data, &p) == nil {
		return p
	}
	return process{}
}

func (p process) record(path string) error { return writeJSON(path, p) }

func (p process) alive() bool {
	now, err := processOf(p.PID)
	return err == nil && p.PID != 0 && now == p
}

// killAndWait ends the process if it still is the one that was recorded.
func (p process) killAndWait() error {
	deadline := time.Now().Add(10 * time.Second)
	for p.alive() {
		if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill process %d: %w", p.PID, err)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d is still there 10 s after SIGKILL", p.PID)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

// killTree ends a host's nspawn, and with its PID 1 everything in the host.
func (p process) killTree() error {
	if !p.alive() {
		return nil
	}
	var leader process
	if pid := child(p.PID); pid != 0 {
		leader, _ = processOf(pid)
	}
	return errors.Join(p.killAndWait(), leader.killAndWait())
}

// child is the first child of a process, or 0: PID 1 of a host is nspawn's.
func child(pid int) int {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if fields := strings.Fields(string(data)); len(fields) > 0 {
		n, _ := strconv.Atoi(fields[0])
		return n
	}
	return 0
}
