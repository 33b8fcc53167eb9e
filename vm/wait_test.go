package vm

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
)

// guestHost is a hypervisor with one machine whose console says what it is told.
type guestHost struct {
	Hypervisor // other calls fail
	machine    VM
	console    string
}

func (g *guestHost) Get(context.Context, string) (VM, error) { return g.machine, nil }

func (g *guestHost) ConsoleLog(context.Context, string, int64) ([]byte, error) {
	return []byte(g.console), nil
}

// sshd answers connections with a greeting.
func sshd(greeting string) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			_, _ = server.Write([]byte(greeting))
			_ = server.Close()
		}()
		return client, nil
	}
}

func TestTimeoutNamesThePhaseAndQuotesTheConsole(t *testing.T) {
	synctest.Test(t, checkTimeout) // no time goes by unless it waits
}

func checkTimeout(t *testing.T) {
	g := &guestHost{machine: VM{Name: "pi", State: Running}, console: "[    0.000000] Linux version 6.1\n\x1b[31m[    2.0] virtio_blk: no such disk\x1b[0m\r\n"}
	ctx, cancel := context.WithTimeout(t.Context(), 2*pollEvery)
	defer cancel()
	_, err := Waiter{Hypervisor: g, Console: g}.Wait(ctx, "pi", WaitSSH)
	if !errors.Is(err, context.DeadlineExceeded) || hint.Code(err) != hint.CodeUnreachable {
		t.Fatalf("wait: %v, code %d", err, hint.Code(err))
	}
	for _, want := range []string{"stuck in phase kernel", "no address", "  | [    2.0] virtio_blk: no such disk\n"} {
		if !strings.Contains(err.Error()+"\n", want) {
			t.Errorf("the error lacks %q:\n%s", want, err)
		}
	}
	if strings.ContainsRune(err.Error(), '\x1b') {
		t.Error("the console's escapes reach the terminal")
	}
}

func TestStoppedMachineEndsTheWait(t *testing.T) {
	g := &guestHost{machine: VM{Name: "pi", State: Crashed}}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := (Waiter{Hypervisor: g, Console: g}).Wait(ctx, "pi", WaitSSH); err == nil || ctx.Err() != nil {
		t.Errorf("wait for a crashed machine: %v", err)
	}
}

func TestPhasesAreToldOnceInOrder(t *testing.T) {
	g := &guestHost{machine: VM{Name: "pi", State: Running, Address: "192.0.2.1"}, console: "Linux version 6\nsystemd[1]: hello\nCloud-init v. 22.4 running\n"}
	var told []Phase
	w := Waiter{
		Hypervisor: g, Console: g, Dial: sshd("SSH-2.0-x\r\n"),
		FirstBoot: func(context.Context, VM) (bool, error) { return true, nil },
		Report:    func(p Phase, _ time.Duration) { told = append(told, p) },
	}
	if _, err := w.Wait(t.Context(), "pi", WaitCloudInit); err != nil {
		t.Fatal(err)
	}
	if got, want := told, []Phase{PhaseFirstBoot, PhaseLease, PhaseSSH, PhaseDone}; len(got) != len(want) || got[0] != want[0] || got[3] != want[3] {
		t.Errorf("told %v, want %v", got, want)
	}
}

func TestFailedFirstBootEndsTheWait(t *testing.T) {
	g := &guestHost{machine: VM{Name: "pi", State: Running, Address: "192.0.2.1"}}
	asked := 0
	w := Waiter{Hypervisor: g, Dial: sshd("SSH-2.0-x\r\n"), FirstBoot: func(context.Context, VM) (bool, error) {
		if asked++; asked == 1 {
			return false, errors.New("connection refused")
		}
		return true, errors.New("no such time zone")
	}}
	if _, err := w.Wait(t.Context(), "pi", WaitCloudInit); err == nil || !strings.Contains(err.Error(), "no such time zone") || asked != 2 {
		t.Errorf("wait: %v after asking %d times", err, asked)
	}
}

func TestPortThatIsNotSSHIsNotEnough(t *testing.T) {
	g := &guestHost{machine: VM{Name: "pi", State: Running, Address: "192.0.2.1"}}
	ctx, cancel := context.WithTimeout(t.Context(), 2*pollEvery)
	defer cancel()
	if _, err := (Waiter{Hypervisor: g, Dial: sshd("HTTP/1.1 400\r\n")}).Wait(ctx, "pi", WaitSSH); err == nil {
		t.Error("a web server was taken for sshd")
	}
}

func TestValidateReportsAllFaults(t *testing.T) {
	s := Spec{Name: "Bad_Name", Arch: "mips", CPUs: -1, MemoryMiB: 1, DiskGiB: 1, Image: Image{Name: "big", Size: 3 << 30}, Accel: "fast", Firmware: "coreboot", FirstBoot: FirstBoot{User: "root", Hostname: "x"}}.WithDefaults()
	err := s.Validate()
	if hint.Code(err) != hint.CodeUsage {
		t.Fatalf("code %d: %v", hint.Code(err), err)
	}
	for _, want := range []string{"name", "arch", "cpus", "memory", "big alone needs 3 GiB", "accel", "firmware", "user root", "nobody could log in"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q:\n%v", want, err)
		}
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	if text := Secret("hunter2").String(); strings.Contains(text, "hunter2") {
		t.Error(text)
	}
}
