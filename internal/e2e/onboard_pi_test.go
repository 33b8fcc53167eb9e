//go:build hosts

package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/testhost"
)

// lookLikeAPi puts the files of a Raspberry Pi Zero 2 W in front of the host's
// own: its model (where DMI has it: there is no device tree here), its memory, the kernel without cgroup memory that Raspberry
// Pi OS boots, and the command line that rpi-imager leaves. All but the last
// are gone after the reboot, as if the kernel had been told what onboard asks for.
const lookLikeAPi = `set -e
mkdir -p /boot/firmware /run/pi
echo 'console=serial0,115200 console=tty1 root=PARTUUID=0a1b2c3d-02 rootfstype=ext4 fsck.repair=yes rootwait' >/boot/firmware/cmdline.txt
sed 's/^MemTotal:.*/MemTotal:         436316 kB/; s/^MemAvailable:.*/MemAvailable:     297404 kB/' /proc/meminfo >/run/pi/meminfo
sed 's/ *memory//' /sys/fs/cgroup/cgroup.controllers >/run/pi/controllers
mount --bind /run/pi/meminfo /proc/meminfo
mount --bind /run/pi/controllers /sys/fs/cgroup/cgroup.controllers
mount -t tmpfs none /sys/class
mkdir -p /sys/class/dmi/id
echo 'Raspberry Pi Zero 2 W Rev 1.0' >/sys/class/dmi/id/product_name`

// slowCard gives the host storage that takes 0.4 s to make anything safe.
func slowCard(t *testing.T, h *testhost.Host) {
	t.Helper()
	library := filepath.Join(h.Root(), "usr/lib/slowcard.so")
	build := exec.CommandContext(t.Context(), "gcc", "-shared", "-fPIC", "-O2", "-o", library, "testdata/slowcard.c")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the slow card: %v\n%s", err, out)
	}
	h.Sh(t, "echo /usr/lib/slowcard.so >/etc/ld.so.preload")
	began := time.Now()
	h.Sh(t, "sync /etc/hostname")
	if took := time.Since(began); took < 400*time.Millisecond {
		t.Fatalf("the card is not slow: sync took %s", took)
	}
}

// TestOnboardPi onboards what looks like a Raspberry Pi: the kernel's command
// line is completed, the reboot that it needs is shown, made and waited for.
func TestOnboardPi(t *testing.T) {
	h := testhost.Start(t, testhost.Options{Podman: true, Hostname: "raspberrypi"})
	c := startControlPlane(t)
	h.Sh(t, lookLikeAPi)
	slowCard(t, h)
	boot := h.Sh(t, "cat /proc/sys/kernel/random/boot_id; uptime -s; systemctl show -P UserspaceTimestampMonotonic")
	args := []string{"onboard", "pi@" + h.IP(), "--ssh-key", h.KeyFile(), "--known-hosts", h.KnownHostsFile()}

	out, stderr, code := c.tryFleetctl(t, append(args, "--plan")...)
	if code != 3 || !strings.Contains(out, "Raspberry Pi Zero 2 W") || !strings.Contains(out, "+console=serial0,115200") || !strings.Contains(out, "reboot") {
		t.Errorf("plan: exit code %d\n%s%s", code, out, stderr)
	}
	c.fleetctl(t, append(args, "--yes")...)
	if line := h.Sh(t, "cat /boot/firmware/cmdline.txt"); !strings.HasPrefix(line, "console=serial0,115200 ") || !strings.Contains(line, " rootwait cgroup_enable=memory") {
		t.Errorf("command line: %s", line)
	}
	if now := h.Sh(t, "cat /proc/sys/kernel/random/boot_id; uptime -s; systemctl show -P UserspaceTimestampMonotonic"); now == boot {
		t.Error("it was not rebooted")
	}
	if again := c.onboard(t, h, "raspberrypi"); again.Hosts[0].Changed != 0 {
		t.Errorf("the second run changed something: %+v", again.Hosts[0].Steps)
	}
}
