//go:build vm && cgo && libvirt_dlopen

package libvirt_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a person at a command: what they see, and their keyboard.
type terminal struct {
	t      *testing.T
	master *os.File
	ended  chan error

	mu   sync.Mutex
	seen bytes.Buffer
	more chan struct{} // something new was seen
}

// sitDown starts a command on a terminal of its own (pty(7)).
func sitDown(t *testing.T, command *exec.Cmd) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	command.Stdin, command.Stdout, command.Stderr = slave, slave, slave
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	s := &terminal{t: t, master: master, ended: make(chan error, 1), more: make(chan struct{}, 1)}
	go s.watch()
	go func() { s.ended <- command.Wait() }()
	return s
}

func (s *terminal) watch() {
	buffer := make([]byte, 4096)
	for {
		n, err := s.master.Read(buffer)
		s.mu.Lock()
		s.seen.Write(buffer[:n])
		s.mu.Unlock()
		select {
		case s.more <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// expect waits until a text was seen, and forgets everything up to its end.
func (s *terminal) expect(text string) {
	s.t.Helper()
	limit := time.After(time.Minute)
	for {
		s.mu.Lock()
		seen := s.seen.String()
		at := bytes.Index(s.seen.Bytes(), []byte(text))
		if at >= 0 {
			s.seen.Next(at + len(text))
		}
		s.mu.Unlock()
		if at >= 0 {
			return
		}
		select {
		case <-s.more:
		case <-limit:
			s.t.Fatalf("%q did not appear; seen: %q", text, seen)
		}
	}
}

func (s *terminal) typeIn(keys string) {
	s.t.Helper()
	if _, err := s.master.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

// leaves waits for the command's end and returns its exit code.
func (s *terminal) leaves() int {
	s.t.Helper()
	select {
	case err := <-s.ended:
		return exitCode(err)
	case <-time.After(time.Minute):
		s.t.Fatal("the command does not end")
		return -1
	}
}
