//go:build vm

// Package machine takes one virtual machine of each architecture through the
// life of a device, with the programs that `make build` made: made twice,
// onboarded, cut off from power, put back to a snapshot, grown, deleted.
package machine

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/testhost/sandbox"
)

func TestMain(m *testing.M) { os.Exit(sandbox.Main(m)) }

func TestDeviceInAMachine(t *testing.T) {
	for _, arch := range []string{"x86_64", "aarch64"} {
		t.Run(arch, func(t *testing.T) {
			sandbox.LeavesNothing(t)
			f := startFleet(t)
			d := &device{fleet: f, t: t, name: "device-" + strings.ReplaceAll(arch, "_", "-"), arch: arch}
			d.create()
			d.createAgain()
			d.onboard()
			boot := d.bootID()

			d.run("vm", "ssh", d.name, "--", "echo kept | sudo tee /marker && sync")
			d.run("vm", "snapshot", "create", d.name, "onboarded")
			d.run("vm", "ssh", d.name, "--", "sudo rm /marker && sync")
			d.run("vm", "snapshot", "restore", d.name, "onboarded")
			if got := d.run("vm", "ssh", d.name, "--", "cat /marker"); got != "kept" {
				t.Errorf("after restoring, /marker is %q", got)
			}
			d.answers("after the snapshot was restored")
			if now := d.bootID(); now != boot {
				t.Errorf("the machine booted (%s), and did not go on from %s", now, boot)
			}
			d.run("vm", "snapshot", "delete", d.name, "onboarded")

			d.run("vm", "resize", d.name, "--disk", "6GiB")
			d.run("vm", "power-cycle", d.name)
			eventually(t, bootLimit, "the agent after the power cut", func() error {
				if now := d.bootID(); now == boot {
					return errors.New("the control plane has not heard of another boot")
				}
				return nil
			})
			d.answers("after the power cut")
			grown := strings.Fields(d.run("vm", "ssh", d.name, "--", "cat /marker; df --output=size -BM / | tail -n1 | tr -d M"))
			if size := 0; len(grown) != 2 || grown[0] != "kept" || scan(grown[1], &size) != nil || size < 5500 {
				t.Errorf("marker and MiB of the root file system after growing to 6 GiB: %q", grown)
			}
			d.run("vm", "delete", d.name, "--yes")
		})
	}
}

// device is a machine and the device that it becomes.
type device struct {
	*fleet
	t          *testing.T
	name, arch string
	address    string
}

func (d *device) run(args ...string) string {
	d.t.Helper()
	return d.fleetctl(d.t, args...)
}

// machine is what `vm create` and `vm info` print for scripts.
type machine struct {
	Changed          bool
	Address, HostKey string
}

func (d *device) createArgs() []string {
	return []string{"vm", "create", d.name, "--arch", d.arch, "--image", sandbox.Image(d.t, d.arch), "--memory", "1GiB", "--disk", "4GiB", "--wait", "cloud-init", "-o", "json"}
}

func (d *device) create() {
	d.t.Helper()
	d.t.Cleanup(func() { d.tidy(d.t, "vm", "delete", d.name, "--yes", "--ignore-missing") })
	got := decode[machine](d.t, d.run(d.createArgs()...))
	if !got.Changed || got.Address == "" {
		d.t.Fatalf("created %+v", got)
	}
	d.address = got.Address
	d.knownHosts(d.t, got.Address+" "+got.HostKey+"\n")
}

func (d *device) createAgain() {
	d.t.Helper()
	args := d.createArgs() // what the image is is not part of the time
	start := time.Now()
	if got := decode[machine](d.t, d.run(args...)); got.Changed {
		d.t.Errorf("the second create changed something: %+v", got)
	}
	// What is left of the time on aarch64 is an emulated guest's answer.
	if took := time.Since(start); took > 2*time.Second && d.arch == "x86_64" {
		d.t.Errorf("the second create took %s, want at most 2 s", took)
	}
}

// onboard ends when the control plane has heard of the device; doing it again
// changes nothing.
func (d *device) onboard() {
	d.t.Helper()
	type result struct{ Hosts []struct{ Changed int } }
	for _, first := range []bool{true, false} {
		got := decode[result](d.t, d.run("onboard", "fleet@"+d.address, "--device-id", d.name, "--ssh-key", d.sshKey(),
			"--known-hosts", d.knownHostsFile(), "--yes", "-o", "json"))
		if len(got.Hosts) != 1 || (got.Hosts[0].Changed > 0) != first {
			d.t.Fatalf("onboarding, for the first time: %t, gave %+v", first, got)
		}
	}
}

// bootID is that of the kernel that the agent last reported from.
func (d *device) bootID() string {
	d.t.Helper()
	type result struct {
		Devices []struct{ Inventory struct{ BootID string } }
	}
	got := decode[result](d.t, d.run("get", "devices", d.name, "-o", "json"))
	if len(got.Devices) != 1 || got.Devices[0].Inventory.BootID == "" {
		d.t.Fatalf("devices: %+v", got)
	}
	return got.Devices[0].Inventory.BootID
}

func (d *device) answers(when string) {
	d.t.Helper()
	eventually(d.t, 2*time.Minute, "ping "+when, func() error {
		_, stderr, err := d.try(d.t, "ping", d.name)
		if err != nil {
			return fmt.Errorf("%w: %s", err, stderr)
		}
		return nil
	})
}

func decode[T any](t *testing.T, out string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("decode %q: %v", out, err)
	}
	return v
}

func scan(s string, into *int) error {
	_, err := fmt.Sscan(s, into)
	return err
}
