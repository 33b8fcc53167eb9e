//go:build vm && !hosts

package e2e

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/testhost/registry"
	"github.com/nationtech/fleetctl/internal/testhost/sandbox"
	"github.com/nationtech/fleetctl/internal/wire"
	fleet "github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

const bootLimit = 6 * time.Minute // emulated, on a loaded machine

// Emulation takes its time, and none of this goes by the processor: by itself
// one architecture has to do, and the demo shows the other.
var (
	machineArch   = flag.String("machine.arch", "x86_64", "which `architectures` to take through it, separated by commas")
	machineFaults = flag.Bool("machine.faults", false, "also try limits of containers, and a clock that jumps")
)

func TestMain(m *testing.M) { os.Exit(sandbox.Main(m)) }

// TestDeviceInAMachine takes one virtual machine of an architecture through the
// life of a device: made twice, onboarded, put back to a snapshot, grown, cut off
// from power, deleted.
func TestDeviceInAMachine(t *testing.T) {
	for arch := range strings.SplitSeq(*machineArch, ",") {
		t.Run(arch, func(t *testing.T) {
			sandbox.LeavesNothing(t)
			gateway := sandbox.Gateway(t)
			d := &device{controlPlane: startControlPlaneAt(t, gateway), t: t, registry: registry.Start(t, gateway+":0"), name: "device-" + strings.ReplaceAll(arch, "_", "-"), arch: arch}
			d.create()
			d.createAgain()
			d.onboard()
			boot := ""
			eventually(t, time.Minute, "the device's first report", func() error {
				if boot = d.bootID(); boot == "" {
					return errors.New("nothing is known of its boot")
				}
				return nil
			})

			if *machineFaults {
				d.limits()
				d.clockJumps()
			}

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
	*controlPlane
	t          *testing.T
	registry   *registry.Server
	name, arch string
	address    string
}

func (d *device) run(args ...string) string {
	d.t.Helper()
	return strings.TrimSpace(d.fleetctl(d.t, args...))
}

// machine is what `vm create` and `vm info` print for scripts.
type machine struct {
	Changed          bool
	Address, HostKey string
}

func (d *device) knownHosts() string { return filepath.Join(d.configDir, "known_hosts") }

func (d *device) createArgs(wait string) []string {
	return []string{"vm", "create", d.name, "--arch", d.arch, "--image", sandbox.Image(d.t, d.arch), "--memory", "1GiB", "--disk", "4GiB", "--wait", wait, "-o", "json"}
}

func (d *device) create() {
	d.t.Helper()
	d.t.Cleanup(func() { d.run("vm", "delete", d.name, "--yes", "--ignore-missing") })
	got := decode[machine](d.t, d.run(d.createArgs("cloud-init")...))
	if !got.Changed || got.Address == "" {
		d.t.Fatalf("created %+v", got)
	}
	d.address = got.Address
	d.t.Cleanup(func() {
		if d.t.Failed() {
			for _, args := range [][]string{{"describe", "device", d.name}, {"vm", "ssh", d.name, "--", "sudo journalctl -u fleet-agent -o cat --no-pager | tail -60"}} {
				stdout, stderr, _ := d.tryFleetctl(d.t, args...)
				d.t.Logf("%s %s:\n%s%s", args[0], args[1], stdout, stderr)
			}
		}
	})
	// The machine's host key was made before its first boot: nothing has to be trusted blindly.
	if err := os.WriteFile(d.knownHosts(), []byte(got.Address+" "+got.HostKey+"\n"), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

func (d *device) createAgain() {
	d.t.Helper()
	args := d.createArgs("ssh") // what the image is is not part of the time
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
		got := decode[result](d.t, d.run("onboard", "fleet@"+d.address, "--device-id", d.name, "--ssh-key", filepath.Join(d.configDir, "fleetctl/id_ed25519"),
			"--known-hosts", d.knownHosts(), "--insecure-registry", d.registry.Addr(), "--yes", "-o", "json"))
		if len(got.Hosts) != 1 || (got.Hosts[0].Changed > 0) != first {
			d.t.Fatalf("onboarding, for the first time: %t, gave %+v", first, got)
		}
	}
}

// limits are in force on a real kernel with all controllers, and who goes beyond
// the memory's is said to be killed for that, for ever again.
func (d *device) limits() {
	d.t.Helper()
	image := registry.PushAppFor(d.t, d.registry, "hello", "v1", map[string]string{"x86_64": "amd64", "aarch64": "arm64"}[d.arch])
	bound := &fleet.Limits{CPUs: "0.5", Memory: "64Mi"}
	d.deploy("bound", fleet.Service{Name: "web", Image: image, Ports: []fleet.Port{"8080:8080"}, Limits: bound})
	d.deploy("greedy", fleet.Service{Name: "eater", Image: image, Command: []fleet.Word{"tool", "allocate", "256"}, Limits: bound})
	eventually(d.t, bootLimit, "the bound one runs", func() error { return d.aggregate(d.t.Context(), "bound", 1, 1) })
	for file, want := range map[string]string{"memory.max": "67108864", "cpu.max": "50000 100000"} {
		eventually(d.t, time.Minute, file+" inside", says(http.DefaultClient, d.address, "/file/sys/fs/cgroup/"+file, want))
	}
	eventually(d.t, bootLimit, "the greedy one keeps being killed", func() error {
		var found fleet.Deployment
		if err := d.Get(d.t.Context(), client.ObjectKey{Namespace: "default", Name: "greedy"}, &found); err != nil {
			return err
		}
		if e := found.Status.Aggregate.LastError; e == nil || !strings.Contains(e.Message, "keeps exiting") || !strings.Contains(e.Message, "code 137 (out of memory)") {
			return fmt.Errorf("last error: %+v", e)
		}
		return nil
	})
	if err := d.Delete(d.t.Context(), &fleet.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "greedy"}}); err != nil {
		d.t.Fatal(err)
	}
}

// clockJumps sets the device's clock a day forth and a day back: it goes on
// obeying, and restarts nothing.
func (d *device) clockJumps() {
	d.t.Helper()
	life := func() string {
		return d.run("inspect", d.name, "bound", "-o", "json")
	}
	started := func() string {
		var all []struct {
			ID    string `json:"Id"`
			State struct{ StartedAt string }
		}
		if err := json.Unmarshal([]byte(life()), &all); err != nil || len(all) != 1 {
			d.t.Fatalf("inspect: %v: %s", err, life())
		}
		return all[0].ID + " " + all[0].State.StartedAt
	}
	before := started()
	d.run("vm", "ssh", d.name, "--", "sudo timedatectl set-ntp false 2>/dev/null || true")
	for _, jump := range []string{"+1 day", "-2 days", "+1 day"} {
		d.run("vm", "ssh", d.name, "--", "sudo date -s '"+jump+"' >/dev/null")
		d.answers("after the clock jumped " + jump)
		if now := started(); now != before {
			d.t.Errorf("the clock jumped %s, and the container is %s, before %s", jump, now, before)
		}
	}
	eventually(d.t, time.Minute, "it still counts", func() error { return d.aggregate(d.t.Context(), "bound", 1, 1) })
}

// deploy makes a Deployment of one service for the device.
func (d *device) deploy(name string, service fleet.Service) {
	d.t.Helper()
	o := &fleet.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: fleet.DeploymentSpec{
		TargetSelector: fleet.LabelSelector{MatchLabels: map[string]fleet.LabelValue{"device-id": fleet.LabelValue(d.name)}},
		Score:          fleet.Score{Type: wire.ScorePodmanV0, Data: fleet.ScoreData{Services: []fleet.Service{service}}},
	}}
	if err := d.Create(d.t.Context(), o); err != nil {
		d.t.Fatal(err)
	}
}

// bootID is that of the kernel that the agent last reported from; "" before it did.
func (d *device) bootID() string {
	d.t.Helper()
	var found fleet.Device
	if err := d.Get(d.t.Context(), client.ObjectKey{Name: d.name}, &found); err != nil {
		d.t.Fatal(err)
	}
	return found.Status.Inventory.BootID
}

func (d *device) answers(when string) {
	d.t.Helper()
	eventually(d.t, 2*time.Minute, "ping "+when, func() error {
		if _, stderr, code := d.tryFleetctl(d.t, "ping", d.name); code != 0 {
			return errors.New(stderr)
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
