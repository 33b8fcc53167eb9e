package hostcfg

import (
	"context"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestFactsOfAPi reads what the probe prints on a Raspberry Pi 4 with
// Raspberry Pi OS: no cgroup memory, rpi-imager's first user.
func TestFactsOfAPi(t *testing.T) {
	out := "login banner\n" + strings.ReplaceAll(`
@os-release
PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
ID=debian
VERSION_ID="12"
VERSION_CODENAME=bookworm

@uname
Linux
raspberrypi
6.6.31+rpt-rpi-v8
aarch64

@pm
apt

@machine-id
0123456789abcdef0123456789abcdef

@boot-id
11111111-2222-3333-4444-555555555555

@init
systemd

@cmdline
console=tty1 cgroup_disable=memory rootwait

@model
Raspberry Pi 4 Model B Rev 1.4
@meminfo
MemTotal: 948280
MemAvailable: 640000

@cpus
4

@df
Filesystem     1024-blocks    Used Available Capacity Mounted on
/dev/mmcblk0p2    29933192 2423232  25956340       9% /

@users
pi

@systemd
systemd 252 (252.22-1~deb12u1)
+PAM +AUDIT

@cgroup2
cpuset cpu io pids

@end
`, "\n@", "\n@m ")
	sections, err := readSections([]byte(out), "@m")
	if err != nil {
		t.Fatal(err)
	}
	got := parseFacts(sections)
	want := &Facts{
		Hostname: "raspberrypi", MachineID: "0123456789abcdef0123456789abcdef", BootID: "11111111-2222-3333-4444-555555555555",
		OS:     OSRelease{ID: "debian", VersionID: "12", Codename: "bookworm", PrettyName: "Debian GNU/Linux 12 (bookworm)"},
		Family: Debian, PackageManager: "apt", Kernel: "6.6.31+rpt-rpi-v8", Machine: "aarch64", Model: "Raspberry Pi 4 Model B Rev 1.4",
		CPUs: 4, MemoryBytes: 948280 << 10, AvailableBytes: 640000 << 10, DiskBytes: 29933192 << 10, DiskFreeBytes: 25956340 << 10,
		Users: []string{"pi"}, Init: "systemd", SystemdVersion: 252, CgroupVersion: 2, Controllers: []string{"cpuset", "cpu", "io", "pids"},
		CommandLine: "console=tty1 cgroup_disable=memory rootwait",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if !got.IsRaspberryPi() || got.HasController("memory") || !got.HasController("cpu") {
		t.Error("a Pi without cgroup memory is not seen as one")
	}
	if _, err := readSections([]byte(out[:len(out)-6]), "@m"); err == nil {
		t.Error("output that is cut off was accepted")
	}
}

func TestGoArch(t *testing.T) {
	for machine, want := range map[string]string{"x86_64": "amd64", "aarch64": "arm64", "armv6l": "arm", "armv7l": "arm", "riscv64": ""} {
		if got := (&Facts{Machine: machine}).GoArch(); got != want {
			t.Errorf("%s: %q, want %q", machine, got, want)
		}
	}
}

// bootHost answers probes with a boot id, and comes back with another after
// the number of reconnections it has left.
type bootHost struct {
	boots    []string // one for each connection
	scripts  []string
	failures int // reconnections that fail
}

func (*bootHost) Name() string { return "boot" }

func (h *bootHost) Run(_ context.Context, c Command) (Result, error) {
	h.scripts = append(h.scripts, c.Script)
	if !c.ReadOnly {
		return Result{}, nil
	}
	_, marker, _ := strings.Cut(c.Script, "printf '\\n")
	marker, _, _ = strings.Cut(marker, " ")
	return Result{Stdout: []byte("\n" + marker + " boot-id\n" + h.boots[0] + "\n\n" + marker + " end\n")}, nil
}

func (*bootHost) Get(context.Context, string, int64) ([]byte, error) { return nil, io.EOF }
func (*bootHost) Put(context.Context, Upload) error                  { return io.EOF }

func (h *bootHost) Reconnect(context.Context) error {
	if h.failures > 0 {
		h.failures--
		return errors.New("connection refused")
	}
	if len(h.boots) > 1 {
		h.boots = h.boots[1:]
	}
	return nil
}

func TestRebootWaitsForAnotherBoot(t *testing.T) {
	h := &bootHost{boots: []string{"one", "one", "two"}, failures: 1}
	op := &rebootOp{bootID: "one", timeout: time.Minute}
	if err := op.apply(t.Context(), &session{host: h}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(h.scripts[0], "systemctl reboot") || h.boots[0] != "two" {
		t.Errorf("scripts %q, boots %q", h.scripts[0], h.boots)
	}
	stuck := &bootHost{boots: []string{"one"}}
	err := (&rebootOp{bootID: "one", timeout: 3 * time.Second}).apply(t.Context(), &session{host: stuck})
	if err == nil || !strings.Contains(err.Error(), "did not come back within 3s") || !strings.Contains(err.Error(), "has not gone down yet") {
		t.Errorf("stuck: %v", err)
	}
	plain := struct{ Host }{h}
	if err := op.apply(t.Context(), &session{host: plain}); err == nil || !strings.Contains(err.Error(), "cannot be reached again") {
		t.Errorf("without Reconnector: %v", err)
	}
}

func TestRebootIsPlanned(t *testing.T) {
	r := Reboot{On: []string{"kernel-arg:a=b"}}
	for _, c := range []struct {
		changed, pending bool
		want             string
	}{
		{want: ""},
		{changed: true, want: "reboot and wait for the host, because kernel-arg:a=b changes"},
		{pending: true, want: "reboot and wait for the host, because an interrupted run changed what needs it"},
	} {
		s := &state{facts: &Facts{}, changed: map[string]bool{"kernel-arg:a=b": c.changed}, pending: map[string]bool{r.pendingName(): c.pending}}
		st := &Step{}
		if err := r.plan(s, st); err != nil || strings.Join(st.Changes, "") != c.want {
			t.Errorf("%+v: %v, %v", c, st.Changes, err)
		}
	}
}

// brokenBus is a host whose bridge greets nobody.
type brokenBus struct {
	bootHost
	open func() (io.ReadWriteCloser, error)
}

func (h *brokenBus) SystemBus(context.Context) (io.ReadWriteCloser, error) { return h.open() }

type pipe struct {
	io.Reader
	io.WriteCloser
}

func TestUnitFallsBackToSystemctl(t *testing.T) {
	closed := func() (io.ReadWriteCloser, error) {
		r, w := io.Pipe()
		_ = r.Close() // the bridge has ended at once
		return pipe{strings.NewReader("sh: systemd-stdio-bridge: not found\n"), w}, nil
	}
	for name, open := range map[string]func() (io.ReadWriteCloser, error){
		"no stream":      func() (io.ReadWriteCloser, error) { return nil, errors.New("no more sessions") },
		"bridge missing": closed,
	} {
		h := &brokenBus{open: open}
		op := &unitOp{target: unitTarget{unit: "a.service"}, reload: true, enable: "enable", job: "restart"}
		if err := op.apply(t.Context(), &session{host: h}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(h.scripts) != 1 || !strings.Contains(h.scripts[0], "sc restart -- 'a.service'") || !strings.Contains(h.scripts[0], "sc daemon-reload") {
			t.Errorf("%s: scripts %q", name, h.scripts)
		}
	}
}
