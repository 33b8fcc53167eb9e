//go:build hosts

package agent_test

import (
	"crypto/ecdh"
	"encoding/json"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/nationtech/fleetctl/internal/testhost"
	"github.com/nationtech/fleetctl/internal/testhost/registry"
	"github.com/nationtech/fleetctl/internal/wire"
)

// otherArch is one that this machine is not.
func otherArch() string {
	if runtime.GOARCH == "arm64" {
		return "amd64"
	}
	return "arm64"
}

// service is the first that a device reports of a deployment.
func service(t *testing.T, s wire.DeviceState, deployment string) wire.ServiceState {
	t.Helper()
	for _, d := range s.Deployments {
		if d.Name == deployment && len(d.Services) > 0 {
			return d.Services[0]
		}
	}
	t.Fatalf("nothing is reported of %s: %+v", deployment, s)
	return wire.ServiceState{}
}

// What image a service runs, where it comes from, and what is said when it
// cannot be had.
func TestImagesOnPodman(t *testing.T) {
	d := newDevice(t, "bookworm")
	f := d.fleet
	first, second := registry.PushApp(t, d.registry, "hello", "v1"), registry.PushApp(t, d.registry, "hello", "v2")
	digest := func(ref string) string { return must(crane.Digest(ref, crane.Insecure))(t) }
	one, two := digest(first), digest(second)
	moving := d.registry.Addr() + "/hello:moving"
	move := func(to string) {
		t.Helper()
		if err := crane.Tag(to, "moving", crane.Insecure); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("refused", func(t *testing.T) {
		alien, index := d.registry.Addr()+"/alien:v1", d.registry.Addr()+"/alien:index"
		binary := filepath.Join(t.TempDir(), "app")
		if err := registry.BuildApp(t.Context(), binary, otherArch()); err != nil {
			t.Fatal(err)
		}
		if err := (registry.App{Binary: binary, Arch: otherArch(), Version: "v1"}).Push(t.Context(), alien); err != nil {
			t.Fatal(err)
		}
		pushIndex(t, alien, index)
		for name, tc := range map[string]struct {
			service wire.Service
			reason  wire.Reason
			says    string
		}{
			"alien":       {wire.Service{Image: alien}, wire.ReasonWrongArchitecture, "is for " + otherArch() + ", and this device is " + runtime.GOARCH},
			"alien-index": {wire.Service{Image: index}, wire.ReasonWrongArchitecture, "has no variant for this device's architecture, " + runtime.GOARCH},
			"nowhere":     {wire.Service{Image: d.registry.Addr() + "/nothing:v1"}, wire.ReasonPullFailed, "nothing:v1"},
			"never":       {wire.Service{Image: second, PullPolicy: wire.PullNever}, wire.ReasonImageNotPresent, "pullPolicy is never"},
		} {
			tc.service.Name = "s"
			f.deploy(name, 1, tc.service)
			got := service(t, f.await(name+" failed", phase(name, 1, wire.PhaseFailed)), name)
			if got.Reason != tc.reason || !strings.Contains(got.Message, tc.says) {
				t.Errorf("%s: reason %q, message %q", name, got.Reason, got.Message)
			}
			f.remove(name)
			f.await(name+" gone", gone(name))
		}
	})

	t.Run("credentials", func(t *testing.T) {
		login := registry.Login{User: "puller", Password: "marker-8675309"}
		private := registry.StartPrivate(t, testhost.HarnessIP+":0", login)
		d.trustRegistry(private.Addr())
		image := registry.PushApp(t, private, "private", "v1")
		public := d.makeSealingKey()
		as := func(generation int64, password string) {
			t.Helper()
			config := fmt.Sprintf(`{"auths":{%q:{"username":%q,"password":%q}}}`, private.Addr(), login.User, password)
			f.deploySealed("private", generation, public, wire.Material{Objects: map[string]map[string][]byte{
				"secret/registry": {".dockerconfigjson": []byte(config)},
			}}, wire.Service{Name: "s", Image: image, RegistryCredentials: "registry"})
		}
		as(1, "wrong-marker")
		got := service(t, f.await("refused", phase("private", 1, wire.PhaseFailed)), "private")
		if got.Reason != wire.ReasonPullFailed || strings.Contains(got.Message, "wrong-marker") {
			t.Errorf("with a wrong password: %+v", got)
		}
		as(2, login.Password)
		f.await("pulled", phase("private", 2, wire.PhaseRunning))
		f.remove("private")
		f.await("gone", gone("private"))
		if left := d.user("cat ~/.config/containers/auth.json /run/user/$(id -u)/containers/auth.json 2>/dev/null || true"); left != "" {
			t.Errorf("the login was left behind: %s", left)
		}
	})

	// A tag is resolved once a generation, and what it stood for is reported,
	// wherever it moves meanwhile.
	t.Run("tags", func(t *testing.T) {
		move(first)
		s := wire.Service{Name: "s", Image: moving, Ports: []string{"8080:8080"}}
		runs := func(generation int64, policy wire.PullPolicy, want string) {
			t.Helper()
			s.PullPolicy = policy
			f.deploy("tag", generation, s)
			got := service(t, f.await("running", phase("tag", generation, wire.PhaseRunning)), "tag")
			if got.ImageDigest != want {
				t.Errorf("generation %d, %s: reports %s, want %s", generation, policy, got.ImageDigest, want)
			}
		}
		runs(1, "", one)
		before := d.container("fleet-tag-s")
		move(second)
		d.Sh(t, "systemctl restart fleet-agent")
		runs(2, wire.PullMissing, one)
		if d.container("fleet-tag-s") != before {
			t.Error("replaced, though the image was there")
		}
		runs(3, wire.PullAlways, two)
		after := d.container("fleet-tag-s")
		if after == before || !strings.Contains(d.page(8080, "/"), "v2") {
			t.Error("the new generation has the old image")
		}
		// The tag moves back. The generation stays, and so does the container.
		move(first)
		d.Sh(t, "systemctl restart fleet-agent")
		f.deploy("beside", 1, wire.Service{Name: "s", Image: moving, PullPolicy: wire.PullAlways})
		got := service(t, f.await("beside runs", phase("beside", 1, wire.PhaseRunning)), "beside")
		if got.ImageDigest != one || d.container("fleet-tag-s") != after {
			t.Errorf("beside has %s, want %s; the other's container is %s, before %s", got.ImageDigest, one, d.container("fleet-tag-s"), after)
		}
		s.Image = d.registry.Addr() + "/hello@" + two
		runs(4, "", two)
		for _, name := range []string{"tag", "beside"} {
			f.remove(name)
			f.await("gone", gone(name))
		}
	})

	// A site without a registry: an archive is all that there is.
	t.Run("preloaded", func(t *testing.T) {
		d.user("podman pull -q --tls-verify=false " + first + " && podman save -q -o /tmp/hello.tar " + first + " && podman rmi -af >/dev/null")
		if err := d.registry.Close(); err != nil {
			t.Fatal(err)
		}
		s := wire.Service{Name: "s", Image: first, Ports: []string{"8080:8080"}, PullPolicy: wire.PullNever}
		f.deploy("site", 1, s)
		f.await("not there", phase("site", 1, wire.PhaseFailed))
		d.user("mkdir -p ~/preload && cp /tmp/hello.tar ~/preload/.hello && mv ~/preload/.hello ~/preload/hello.tar")
		f.await("running from the archive", phase("site", 1, wire.PhaseRunning))
		if !strings.Contains(d.page(8080, "/"), "v1") {
			t.Error("no page")
		}
		s.PullPolicy, s.Env = "", []wire.EnvVar{{Name: "GREETING", Value: "salut"}}
		f.deploy("site", 2, s)
		f.await("the next generation, as ever", phase("site", 2, wire.PhaseRunning))
	})
}

// pushIndex pushes an index whose one image is that of another architecture.
func pushIndex(t *testing.T, image, index string) {
	t.Helper()
	from, to := must(name.ParseReference(image, name.Insecure))(t), must(name.ParseReference(index, name.Insecure))(t)
	alien := must(remote.Image(from))(t)
	entry := mutate.IndexAddendum{Add: alien, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: otherArch()}}}
	if err := remote.WriteIndex(to, mutate.AppendManifests(empty.Index, entry)); err != nil {
		t.Fatal(err)
	}
}

// trustRegistry lets the device speak plain HTTP to one more registry.
func (d *device) trustRegistry(address string) {
	d.t.Helper()
	d.Sh(d.t, fmt.Sprintf("sed -i 's/^insecure_registries = \\[/&\"%s\", /' /etc/fleet-agent/config.toml && systemctl restart fleet-agent", address))
}

// makeSealingKey gives the device a sealing key, and its public half.
func (d *device) makeSealingKey() *ecdh.PublicKey {
	d.t.Helper()
	var made struct{ SealingKey []byte }
	out := d.Sh(d.t, "fleet-agent keygen")
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		d.t.Fatal(err)
	}
	return must(ecdh.X25519().NewPublicKey(made.SealingKey))(d.t)
}
