//go:build vm && cgo && libvirt_dlopen

package libvirt_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/nationtech/fleetctl/internal/testhost/sandbox"
	"github.com/nationtech/fleetctl/internal/testhost/terminal"
	"github.com/nationtech/fleetctl/vm"
)

// program is fleetctl itself, as a person has it, with a home of its own.
type program struct {
	t    *testing.T
	path string
	home string
}

func newProgram(t *testing.T) program {
	t.Helper()
	p := program{t, filepath.Join(t.TempDir(), "fleetctl"), t.TempDir()}
	root, err := sandbox.Repository()
	if err != nil {
		t.Fatal(err)
	}
	// As the Makefile does: fleetctl hands over to fleetctl-vm beside it.
	for _, build := range []*exec.Cmd{
		exec.CommandContext(t.Context(), "env", "CGO_ENABLED=0", "go", "build", "-trimpath", "-o", p.path, "./cmd/fleetctl"),
		exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-tags", "libvirt_dlopen", "-o", p.path+"-vm", "./cmd/fleetctl"),
	} {
		build.Dir = root
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(build.Args, " "), err, out)
		}
	}
	return p
}

func (p program) command(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, p.path, args...)
	c.Env = append(os.Environ(), "HOME="+p.home, "XDG_CONFIG_HOME="+p.home+"/config", "XDG_CACHE_HOME="+p.home+"/cache", "TERM=xterm")
	c.Dir = p.home
	return c
}

// run ends the test where the command fails, and returns what it printed.
func (p program) run(stdin string, args ...string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), bootLimit)
	defer cancel()
	var out, report bytes.Buffer
	c := p.command(ctx, args...)
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(stdin), &out, &report
	start := time.Now()
	if err := c.Run(); err != nil {
		p.t.Fatalf("fleetctl %s: %v\n%s%s", strings.Join(args, " "), err, out.String(), report.String())
	}
	p.t.Logf("fleetctl %s: %.1f s\n%s", strings.Join(args, " "), time.Since(start).Seconds(), report.String())
	return strings.TrimSpace(out.String())
}

func (p program) file(name, content string) string {
	p.t.Helper()
	path := filepath.Join(p.home, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o640)); err != nil {
		p.t.Fatal(err)
	}
	return path
}

func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}

const password = "correct horse; $battery \"staple\""

const userData = `#cloud-config
write_files:
  - {path: /etc/mine, content: "kept: 'yes'\n"}
runcmd:
  - [touch, /ran]
`

// TestEveryVerbOnOneMachine: a machine with UEFI, made, used and taken away by
// the program. The verbs share one boot, which is what takes the time.
func TestEveryVerbOnOneMachine(t *testing.T) {
	sandbox.LeavesNothing(t)
	p := newProgram(t)
	const name = "verbs"
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if out, err := p.command(ctx, "vm", "delete", name, "--yes", "--ignore-missing").CombinedOutput(); err != nil {
			t.Errorf("delete: %v\n%s", err, out)
		}
	})
	image := builtImage(t, vm.X86_64).Path
	create := []string{
		"vm", "create", name, "--image", image, "--firmware", "uefi", "--memory", "1GiB", "--disk", "4GiB", "--password-stdin",
		"--user-data", p.file("user-data", userData), "--wait", "cloud-init", "-o", "json",
	}
	var machine struct {
		Changed bool `json:"changed"`
		vm.VM
	}
	if err := json.Unmarshal([]byte(p.run(password+"\n", create...)), &machine); err != nil || machine.Firmware != vm.FirmwareUEFI || machine.Address == "" || !machine.Changed {
		t.Fatalf("created %+v, %v", machine, err)
	}
	file := p.file("domain.xml", dumpXML(t, name))
	judge(t, "", "virt-xml-validate", file, "domain")

	t.Run("first boot", func(t *testing.T) { p.firstBoot(t, name) })
	t.Run("password", func(t *testing.T) { logsInWithPassword(t, machine.VM) })
	t.Run("cp", func(t *testing.T) { p.copies(t, name) })
	t.Run("port-forward", func(t *testing.T) { p.forwards(t, name) })
	t.Run("ssh", func(t *testing.T) { p.shells(t, name) })
	t.Run("console", func(t *testing.T) { p.consoles(t, name) })
	t.Run("snapshot", func(t *testing.T) { p.snapshots(t, name) })
	t.Run("killed snapshot", func(t *testing.T) { p.killedSnapshot(t, name) })

	p.run("", "vm", "delete", name, "--yes")
	if list := p.run("", "vm", "list", "-o", "json"); !strings.Contains(list, `"vms": []`) {
		t.Errorf("after delete: %s", list)
	}
}

func (p program) firstBoot(t *testing.T, name string) {
	p.t = t
	if got := p.run("", "vm", "ssh", name, "--", "cat /etc/mine; ls /ran /sys/firmware/efi/config_table"); got != "kept: 'yes'\n/ran\n/sys/firmware/efi/config_table" {
		t.Errorf("after first boot: %q", got)
	}
	p.run("", "vm", "ssh", name, "--", "sudo cloud-init schema --system")
}

func logsInWithPassword(t *testing.T, machine vm.VM) {
	host, _, _, _, err := ssh.ParseAuthorizedKey([]byte(machine.HostKey))
	if err != nil {
		t.Fatal(err)
	}
	client, err := ssh.Dial("tcp", net.JoinHostPort(machine.Address, "22"), &ssh.ClientConfig{
		User: machine.User, Auth: []ssh.AuthMethod{ssh.Password(password)}, HostKeyCallback: ssh.FixedHostKey(host), Timeout: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = client.Close()
}

// copies a file and a directory there and back.
func (p program) copies(t *testing.T, name string) {
	p.t = t
	file := p.file("one", strings.Repeat("one\n", 100_000))
	p.file("tree/a/b", "deep")
	p.file("tree/c", "")
	p.run("", "vm", "cp", file, name+":/tmp/one")
	p.run("", "vm", "cp", filepath.Join(p.home, "tree"), name+":/tmp/tree")
	if got := p.run("", "vm", "ssh", name, "--", "stat -c '%a %s' /tmp/one; cd /tmp/tree; find . -type f | sort; cat a/b"); got != "640 400000\n./a/b\n./c\ndeep" {
		t.Errorf("in the machine: %q", got)
	}
	back := t.TempDir()
	p.run("", "vm", "cp", name+":/tmp/one", filepath.Join(back, "one"))
	p.run("", "vm", "cp", name+":/tmp/tree", back)
	judge(t, "", "cmp", file, filepath.Join(back, "one"))
	judge(t, "", "diff", "-r", filepath.Join(p.home, "tree"), filepath.Join(back, "tree"))
}

func (p program) forwards(t *testing.T, name string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := p.command(ctx, "vm", "port-forward", name, "0:22")
	report, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(report).ReadString('\n')
	address, _, _ := strings.Cut(line, " ")
	if err != nil {
		t.Fatalf("it said %q, %v", line, err)
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if banner, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.HasPrefix(banner, "SSH-2.0-") {
		t.Errorf("through the port: %q, %v", banner, err)
	}
	if err := c.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := exitCode(c.Wait()); code != 130 {
		t.Errorf("interrupted, it ends with %d, want 130", code)
	}
}

func (p program) shells(t *testing.T, name string) {
	s := terminal.Start(t, p.command(t.Context(), "vm", "ssh", name))
	s.Expect("$ ")
	s.Type("tty -s && echo answer=$((6 * 7)); exit 3\r")
	s.Expect("answer=42")
	if code := s.ExitCode(); code != 3 {
		t.Errorf("the shell's exit code arrives as %d, want 3", code)
	}
}

func (p program) consoles(t *testing.T, name string) {
	s := terminal.Start(t, p.command(t.Context(), "vm", "console", name))
	s.Expect("ctrl-] leaves")
	s.Type("\r")
	s.Expect(name + " login: ")
	s.Type("\x1d")
	if code := s.ExitCode(); code != 0 {
		t.Errorf("ctrl-] ends with %d", code)
	}
	if log := p.run("", "vm", "console", name, "--log"); !strings.Contains(log, "Linux version ") {
		t.Errorf("the console's log: %q", log)
	}
}

// setVariable writes a variable of the firmware, which lands in NVRAM.
const setVariable = `v=/sys/firmware/efi/efivars/FleetTest-2d6a0f3c-1a53-4c43-9d3e-6f6c65657400
mountpoint -q ${v%/*} || sudo mount -t efivarfs none ${v%/*}
printf '\007\000\000\000after' >/tmp/v; sudo cp /tmp/v $v; sudo touch /after; sync; ls /after $v | wc -l; cat /proc/sys/kernel/random/boot_id`

const seeVariable = `ls /after /sys/firmware/efi/efivars/FleetTest-* 2>/dev/null | wc -l; cat /proc/sys/kernel/random/boot_id`

// snapshots: disk, memory and firmware variables come back together.
func (p program) snapshots(t *testing.T, name string) {
	p.t = t
	nvram := "/var/lib/libvirt/images/fleet/" + name + ".nvram.fd"
	p.run("", "vm", "ssh", name, "--", "sync")
	p.run("", "vm", "snapshot", "create", name, "clean")
	clean := read(t, nvram)
	count, bootID, _ := strings.Cut(p.run("", "vm", "ssh", name, "--", setVariable), "\n")
	if count != "2" {
		t.Fatalf("the guest could not write: %q", count)
	}
	if bytes.Equal(clean, read(t, nvram)) {
		t.Error("a variable that the guest wrote is not in its NVRAM")
	}
	p.run("", "vm", "snapshot", "restore", name, "clean")
	if got := p.run("", "vm", "ssh", name, "--", seeVariable); got != "0\n"+bootID {
		t.Errorf("after restoring: %q, want nothing left and the boot %s", got, bootID)
	}
	if !bytes.Equal(clean, read(t, nvram)) {
		t.Error("NVRAM is not what it was")
	}
	p.run("", "vm", "snapshot", "delete", name, "clean")
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// killedSnapshot: the program dies while the machine is stopped for a snapshot.
func (p program) killedSnapshot(t *testing.T, name string) {
	p.t = t
	h := open(t)
	bootID := p.run("", "vm", "ssh", name, "--", "cat /proc/sys/kernel/random/boot_id")
	stopped := false
	for try := 0; !stopped && try < 3; try++ {
		c := p.command(t.Context(), "vm", "snapshot", "create", name, "cut")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			_ = c.Wait() // it is killed, or was faster
			close(ended)
		}()
		for running := true; running && !stopped; {
			machine, err := h.Get(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			stopped = machine.State == vm.Stopped
			select {
			case <-ended:
				running = false
			default:
			}
		}
		_ = c.Process.Kill()
		if !stopped {
			p.run("", "vm", "snapshot", "delete", name, "cut") // it was faster
		}
	}
	if !stopped {
		t.Fatal("the machine was never seen stopped for its snapshot")
	}
	p.run("", "vm", "start", name)
	if got := p.run("", "vm", "ssh", name, "--", "cat /proc/sys/kernel/random/boot_id"); got != bootID {
		t.Errorf("the machine booted anew (%s), and did not go on from %s", got, bootID)
	}
	if list := p.run("", "vm", "snapshot", "list", name); strings.Contains(list, "cut") {
		p.run("", "vm", "snapshot", "delete", name, "cut")
	}
	left, err := filepath.Glob("/var/lib/libvirt/images/fleet/" + name + ".snapshot.*")
	if err != nil || len(left) > 0 {
		t.Errorf("left of the snapshot: %q, %v", left, err)
	}
	p.run("", "vm", "snapshot", "create", name, "cut")
	p.run("", "vm", "snapshot", "delete", name, "cut")
}
