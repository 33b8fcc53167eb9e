//go:build hosts

package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nationtech/fleetctl/internal/testhost"
	"github.com/nationtech/fleetctl/internal/testhost/registry"
	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/onboard"
	fleet "github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// BenchmarkServerReady times `fleet-server all` on a fresh directory, from its
// start to READY=1.
func BenchmarkServerReady(b *testing.B) {
	var times []time.Duration
	for b.Loop() {
		c := &controlPlane{dir: filepath.Join(b.TempDir(), "server")}
		times = append(times, c.start(b))
		c.stop(b, syscall.SIGTERM)
	}
	b.ReportMetric(median(times).Seconds(), "s-median")
	b.ReportMetric(slices.Max(times).Seconds(), "s-max")
}

// BenchmarkApplyToContainer times a Deployment with an image that is present,
// from the API server's answer to the container's creation as Podman's socket
// shows it on the device. It reports the agent's size and memory as well.
func BenchmarkApplyToContainer(b *testing.B) {
	h := testhost.Start(b, testhost.Options{Podman: true, Hostname: "pi-bench"})
	c := startControlPlane(b)
	reg := registry.Start(b, testhost.HarnessIP+":0")
	image := registry.PushApp(b, reg, "hello", "v1")
	c.onboard(b, h, "pi-bench", "--insecure-registry", reg.Addr())
	// The first one pulls the image.
	c.fleetctl(b, "deploy", "warm", "--image", image, "--device", "pi-bench", "--port", "8000:8080", "--wait", "--timeout", "2m")
	rss := agentRSS(b, h)

	var times []time.Duration
	n := 0
	for b.Loop() {
		n++
		name := "bench-" + strconv.Itoa(n)
		times = append(times, applyUntilCreated(b, c, h, name, image, 8000+n))
	}
	b.ReportMetric(median(times).Seconds(), "s-median")
	b.ReportMetric(slices.Max(times).Seconds(), "s-max")
	b.ReportMetric(float64(rss)/(1<<20), "agent-MiB-resident")
	size, err := os.Stat(program(b, "fleet-agent-linux-arm64"))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(size.Size())/(1<<20), "agent-arm64-MiB")
}

func applyUntilCreated(b *testing.B, c *controlPlane, h *testhost.Host, name, image string, port int) time.Duration {
	b.Helper()
	d := fleet.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Spec: fleet.DeploymentSpec{
			TargetSelector: fleet.LabelSelector{MatchLabels: map[string]fleet.LabelValue{"device-id": "pi-bench"}},
			Score: fleet.Score{Type: wire.ScorePodmanV0, Data: fleet.ScoreData{Services: []fleet.Service{{
				Name: "web", Image: image, Ports: []fleet.Port{fleet.Port(strconv.Itoa(port) + ":8080")},
			}}}},
		},
	}
	// Podman makes the container's directory when it creates the container; a
	// look through the file system costs the device nothing.
	storage := containerDir(b, h)
	before := entries(b, storage)
	began := time.Now()
	if err := c.Create(b.Context(), &d); err != nil {
		b.Fatal(err)
	}
	for entries(b, storage) == before {
		if time.Since(began) > 30*time.Second {
			b.Fatalf("no container for %s after 30 s", name)
		}
		time.Sleep(2 * time.Millisecond)
	}
	took := time.Since(began)
	if err := c.Delete(b.Context(), &d); err != nil {
		b.Fatal(err)
	}
	eventually(b, time.Minute, "container gone", func() error {
		if entries(b, storage) != before {
			return os.ErrExist
		}
		return nil
	})
	return took
}

// containerDir is where Podman keeps its containers: overlay-containers, or
// vfs-containers where its storage driver is vfs.
func containerDir(b *testing.B, h *testhost.Host) string {
	b.Helper()
	dirs, err := filepath.Glob(filepath.Join(h.Root(), onboard.Home, ".local/share/containers/storage/*-containers"))
	if err != nil || len(dirs) != 1 {
		b.Fatalf("Podman's containers are in %v (%v), not in one place", dirs, err)
	}
	return dirs[0]
}

func entries(b *testing.B, dir string) int {
	b.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		b.Fatal(err)
	}
	count := 0
	for _, e := range list {
		if e.IsDir() {
			count++
		}
	}
	return count
}

// agentRSS is the resident memory of the agent's process, in bytes.
func agentRSS(b *testing.B, h *testhost.Host) int {
	b.Helper()
	kib, err := strconv.Atoi(strings.TrimSpace(h.Sh(b, `awk '/^VmRSS/ {print $2}' /proc/$(systemctl show -P MainPID fleet-agent)/status`)))
	if err != nil {
		b.Fatal(err)
	}
	return kib << 10
}

func median(d []time.Duration) time.Duration {
	d = slices.Clone(d)
	slices.Sort(d)
	return d[len(d)/2]
}
