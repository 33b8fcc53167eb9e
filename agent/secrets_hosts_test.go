//go:build hosts

package agent_test

import (
	"crypto/ecdh"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nationtech/fleetctl/internal/testhost/registry"
	"github.com/nationtech/fleetctl/internal/wire"
)

// deploySealed is deploy with what the deployment takes from elsewhere.
func (f *fleet) deploySealed(name string, generation int64, to *ecdh.PublicKey, m wire.Material, services ...wire.Service) {
	f.t.Helper()
	sealed := must(wire.SealMaterial(to, deviceID, name, "tag", m))(f.t)
	data := must(json.Marshal(wire.PodmanV0{Services: services}))(f.t)
	f.desired[name] = must(json.Marshal(wire.DesiredState{
		SchemaVersion: 1, Deployment: name, Namespace: "default", UID: "uid-" + name, Generation: generation,
		Score: wire.Score{Type: wire.ScorePodmanV0, Data: data}, Sealed: sealed,
	}))(f.t)
	f.publish()
}

// Secrets are in the container and nowhere on the disk, come back after a
// reboot without a network, and a rotation replaces just that service. (On Debian
// 13 TestSecrets of internal/e2e goes the same way.)
func TestSecretsOnPodman(t *testing.T) {
	d := newDevice(t, "bookworm")
	key := d.makeSealingKey()
	image := registry.PushApp(t, d.registry, "hello", "v1")
	service := wire.Service{
		Name: "a", Image: image, Ports: []string{"8080:8080"}, User: "1000",
		Env:   []wire.EnvVar{{Name: "PASSWORD", ValueFrom: &wire.ValueFrom{SecretKeyRef: &wire.KeyRef{Name: "db", Key: "password"}}}},
		Files: []wire.File{{Path: "/etc/db", Secret: "db"}, {Path: "/etc/app", ConfigMap: "app", Keys: []string{"mode"}}},
	}
	other := wire.Service{Name: "b", Image: image}
	material := func(password string) wire.Material {
		return wire.Material{Objects: map[string]map[string][]byte{
			"secret/db": {"password": []byte(password)}, "configmap/app": {"mode": []byte("fast"), "not-asked-for": nil},
		}}
	}
	const first, second = "hunter2-4711", "correct-horse-0815"
	shows := func(password string) {
		t.Helper()
		for path, want := range map[string]string{"/env/PASSWORD": password, "/file/etc/db/password": password, "/file/etc/app/mode": "fast", "/process": "uid 1000"} {
			if got := d.page(8080, path); !strings.Contains(got, want) {
				t.Errorf("%s: %q, want %q", path, got, want)
			}
		}
	}
	onDisk := func(password string) string {
		return d.Sh(t, "sync; grep -rlaF "+password+" / --exclude-dir=proc --exclude-dir=sys --exclude-dir=run --exclude-dir=dev 2>/dev/null || true")
	}
	d.fleet.deploySealed("web", 1, key, material(first), service, other)
	d.fleet.await("running", phase("web", 1, wire.PhaseRunning))
	shows(first)
	if found := onDisk(first); found != "" {
		t.Errorf("in clear on the device's disk: %s", found)
	}
	if out := d.Sh(t, "grep -rlaF "+first+" "+filepath.Join("/run", "user")+" 2>/dev/null || true"); out != "" {
		t.Errorf("in clear where Podman keeps its own: %s", out)
	}

	a, b := d.container("fleet-web-a"), d.container("fleet-web-b")
	d.rebootOffline()
	d.until("containers run", func() bool {
		return d.works() && len(lines(d.user("podman ps -q --filter status=running"))) == 2
	})
	d.NetworkUp(t)
	shows(first)
	if d.container("fleet-web-a") != a || d.container("fleet-web-b") != b {
		t.Error("the reboot replaced a container")
	}

	d.fleet.deploySealed("web", 2, key, material(second), service, other)
	d.fleet.awaitFor(2*patience, "rotated", phase("web", 2, wire.PhaseRunning))
	shows(second)
	if d.container("fleet-web-a") == a || d.container("fleet-web-b") != b {
		t.Error("a rotation replaces just the service that has the secret")
	}
	if out := d.Sh(t, "grep -rlaF "+first+" /run 2>/dev/null || true"); out != "" {
		t.Errorf("the old secret is still in memory: %s", out)
	}
	d.fleet.remove("web")
	d.fleet.await("gone", gone("web"))
	d.until("nothing of it is left in memory", func() bool { return d.Sh(t, "grep -rlaF "+second+" /run 2>/dev/null || true") == "" })
}
