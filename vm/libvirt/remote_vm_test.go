//go:build vm && cgo && libvirt_dlopen

package libvirt_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/testhost/sandbox"
	"github.com/nationtech/fleetctl/vm"
)

// TestHypervisorFarAway makes a machine through qemu+ssh, where libvirt sees to
// files that fleetctl cannot reach, and takes it away again.
func TestHypervisorFarAway(t *testing.T) {
	sandbox.LeavesNothing(t, "ipv4") // a lease ends on the network of the far machine only
	p := newProgram(t)
	connect := "--connect=" + startSSHD(t)
	const name = "far-away"
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if out, err := p.command(ctx, "vm", "delete", name, connect, "--yes", "--ignore-missing").CombinedOutput(); err != nil {
			t.Errorf("delete: %v\n%s", err, out)
		}
	})
	create := []string{"vm", "create", name, connect, "--image", builtImage(t, vm.X86_64).Path, "--accel", "tcg", "--memory", "512MiB", "--disk", "4GiB", "--wait", "ssh", "-o", "json"}
	for _, changed := range []bool{true, false} {
		var machine struct {
			Changed bool
			vm.VM
		}
		if err := json.Unmarshal([]byte(p.run("", create...)), &machine); err != nil || machine.Changed != changed || machine.Address == "" {
			t.Fatalf("create, for the first time: %t, gave %+v, %v", changed, machine, err)
		}
	}
	if log := p.run("", "vm", "console", name, connect, "--log"); !strings.Contains(log, "Linux version ") {
		t.Errorf("the console's log: %q", log)
	}
	if got := p.run("", "vm", "ssh", name, connect, "--", "hostname"); got != name {
		t.Errorf("hostname: %q", got)
	}
	p.run("", "vm", "snapshot", "create", name, "one", connect)
	p.run("", "vm", "snapshot", "restore", name, "one", connect)
	p.run("", "vm", "delete", name, connect, "--yes")
	if list := p.run("", "vm", "list", connect, "-o", "json"); !strings.Contains(list, `"vms": []`) {
		t.Errorf("after delete: %s", list)
	}
}

// startSSHD runs an SSH server in the sandbox, whose sessions meet the
// sandbox's libvirt, and gives the address of that libvirt through it.
func startSSHD(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, key := range []string{"host", "user"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key)).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v\n%s", err, out)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("Port %d\nListenAddress 127.0.0.1\nHostKey %[2]s/host\nAuthorizedKeysFile %[2]s/user.pub\nStrictModes no\nPermitRootLogin prohibit-password\nUsePAM no\nPidFile none\n", port, dir)
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // sshd's own directory, which it demands
		t.Fatal(err)
	}
	server := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", filepath.Join(dir, "config"))
	server.Stderr = testWriter{t}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("sshd: %v", err)
		}
	}
	// The server is one of the test's own, so its key is not asked about.
	query := url.Values{"keyfile": {filepath.Join(dir, "user")}, "no_verify": {"1"}}
	return (&url.URL{Scheme: "qemu+ssh", User: url.User("root"), Host: address, Path: "/system", RawQuery: query.Encode()}).String()
}
