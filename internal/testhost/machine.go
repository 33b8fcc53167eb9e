package testhost

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
)

// rebootStatus is nspawn's exit status when the host asked for a reboot and
// something else is to start it again.
const rebootStatus = 133

// machine is the power of a host: one systemd-nspawn at a time, started again
// when the host reboots itself.
type machine struct {
	slot    slot
	stopped chan struct{} // closed when the host is off

	mu       sync.Mutex
	nspawn   *os.Process
	killed   bool
	rebooted chan struct{} // closed and replaced when the host comes back by itself
}

func (s slot) console() string { return filepath.Join(s.dir(), "console.log") }

// startMachine switches the host on.
func startMachine(s slot) (*machine, error) {
	m := &machine{slot: s, stopped: make(chan struct{}), rebooted: make(chan struct{})}
	cmd, err := m.spawn()
	if err != nil {
		return nil, err
	}
	go m.supervise(cmd)
	return m, nil
}

// supervise starts the host again as long as it asks for it.
func (m *machine) supervise(cmd *exec.Cmd) {
	defer close(m.stopped)
	for {
		_ = cmd.Wait() // the status is looked at below
		if cmd.ProcessState.ExitCode() != rebootStatus {
			return
		}
		var err error
		if cmd, err = m.spawn(); err != nil {
			return
		}
		m.mu.Lock()
		close(m.rebooted)
		m.rebooted = make(chan struct{})
		m.mu.Unlock()
	}
}

// spawn starts one systemd-nspawn in the slot's cgroup, in a session of its
// own so that a ctrl-C at the test's terminal does not reach it first.
func (m *machine) spawn() (*exec.Cmd, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.killed {
		return nil, errors.New("the host was switched off")
	}
	procs, err := m.slot.makeCgroup("")
	if err != nil {
		return nil, err
	}
	console, err := os.OpenFile(m.slot.console(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer console.Close()

	cmd := enterCgroups(context.Background(), procs, "systemd-nspawn",
		"--quiet", "--register=no", "--keep-unit", "--directory="+m.slot.root(),
		"--network-namespace-path="+m.slot.netnsPath(),
		"--resolv-conf=off", "--timezone=off", "--link-journal=no",
		// Rootless containers make keyrings and BPF programs.
		"--system-call-filter=add_key keyctl request_key bpf",
		"--bind="+m.slot.device("fuse")+":/dev/fuse", "--bind="+m.slot.device("tun")+":/dev/net/tun", "--boot")
	cmd.Stdout, cmd.Stderr = console, console
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Env = append(os.Environ(),
		"SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes",  // else no ping_group_range for rootless Podman
		"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=yes") // cgroup 2, as current devices have
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start systemd-nspawn: %w", err)
	}
	m.nspawn = cmd.Process
	p, err := processOf(cmd.Process.Pid)
	if err == nil {
		err = p.record(m.slot.init())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("record nspawn's process: %w", err), cmd.Process.Kill(), cmd.Wait())
	}
	return cmd, nil
}

// kill cuts the power and waits until everything is gone.
func (m *machine) kill() error {
	m.mu.Lock()
	m.killed = true
	m.mu.Unlock()
	if err := recorded(m.slot.init()).killTree(); err != nil {
		return fmt.Errorf("cut the host's power: %w", err)
	}
	<-m.stopped
	return nil
}

// leader is the host's PID 1 as the machine sees it, or 0.
func (m *machine) leader() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return child(m.nspawn.Pid)
}
