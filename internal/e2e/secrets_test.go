//go:build hosts

package e2e

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/credential"
	"github.com/nationtech/fleetctl/internal/devicekey"
	"github.com/nationtech/fleetctl/internal/testhost"
	"github.com/nationtech/fleetctl/internal/testhost/registry"
	"github.com/nationtech/fleetctl/internal/wire"
	fleet "github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// TestSecrets follows a Secret and a ConfigMap from the Kubernetes API into a
// container, through a change, new keys of the device and a reboot without a
// network, and looks for them everywhere that they must not be.
func TestSecrets(t *testing.T) {
	h := testhost.Start(t, testhost.Options{Suite: "trixie", Podman: true, Hostname: "pi-a"})
	other := testhost.Start(t, testhost.Options{Suite: "bookworm", Podman: true, Hostname: "pi-b"})
	c := startControlPlane(t)
	login := registry.Login{User: "puller", Password: "registry-marker-2718281828"}
	reg := registry.StartPrivate(t, testhost.HarnessIP+":0", login)
	image := registry.PushApp(t, reg, "private", "v1")
	enroll := func(h *testhost.Host, more ...string) {
		t.Helper()
		c.fleetctl(t, append([]string{"enroll", "pi@" + h.IP(), "--device-id", h.Hostname(), "--yes", "--ssh-key", h.KeyFile(),
			"--known-hosts", h.KnownHostsFile(), "--insecure-registry", reg.Addr()}, more...)...)
	}
	enroll(h)
	enroll(other)

	const first, second, mode = "secret-marker-3141592653", "secret-marker-1618033988", "config-marker-5772156649"
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "shop"}, Data: map[string][]byte{"password": []byte(first)}}
	c.create(t, secret,
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "shop"}, Data: map[string]string{"mode": mode}},
		&corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "registry"}, Type: corev1.SecretTypeDockerConfigJson,
			StringData: map[string]string{corev1.DockerConfigJsonKey: fmt.Sprintf(`{"auths":{%q:{"username":%q,"password":%q}}}`, reg.Addr(), login.User, login.Password)},
		},
		&fleet.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "shop"}, Spec: fleet.DeploymentSpec{
			TargetSelector: fleet.LabelSelector{MatchLabels: map[string]fleet.LabelValue{"device-id": "pi-a"}},
			Score: fleet.Score{Type: wire.ScorePodmanV0, Data: fleet.ScoreData{Services: []fleet.Service{
				{
					Name: "web", Image: image, Ports: []fleet.Port{"8080:8080"}, RegistryCredentials: "registry",
					Env:   []fleet.EnvVar{{Name: "PASSWORD", ValueFrom: &fleet.ValueFrom{SecretKeyRef: &fleet.KeyRef{Name: "shop", Key: "password"}}}},
					Files: []fleet.File{{Path: "/etc/shop", Secret: "shop"}, {Path: "/etc/mode", ConfigMap: "shop"}},
				},
				{Name: "beside", Image: image, RegistryCredentials: "registry"},
			}}},
		}})
	running := func(password string) {
		t.Helper()
		eventually(t, time.Minute, "one of one succeeded", func() error { return c.aggregate(t.Context(), "shop", 1, 1) })
		for path, want := range map[string]string{"/env/PASSWORD": password, "/file/etc/shop/password": password, "/file/etc/mode/mode": mode} {
			eventually(t, time.Minute, path, says(http.DefaultClient, h.IP(), path, want))
		}
	}
	running(first)

	t.Run("mounted read-only from memory", func(t *testing.T) {
		_, mounts := fetch(http.DefaultClient, h.IP(), "/file/proc/self/mountinfo")
		for _, at := range []string{"/etc/shop", "/etc/mode"} {
			i := slices.IndexFunc(strings.Split(mounts, "\n"), func(line string) bool {
				field := strings.Fields(line) // proc_pid_mountinfo(5)
				return len(field) > 9 && field[4] == at && slices.Contains(strings.Split(field[5], ","), "ro") && strings.Contains(line, " - tmpfs ")
			})
			if i < 0 {
				t.Errorf("%s is not: %s", at, mounts)
			}
		}
	})

	markers := []string{first, second, mode, login.Password}
	t.Run("in clear on no disk", func(t *testing.T) {
		nothingIn(t, filepath.Join(c.dir, "nats"), markers)
		nothingIn(t, filepath.Join(c.dir, "audit"), markers)
		nothingIn(t, filepath.Dir(c.logs.Name()), markers, c.dir)
		h.Sh(t, "sync")
		for _, dir := range []string{"etc", "home", "root", "tmp", "var", "usr/local", "opt"} {
			nothingIn(t, filepath.Join(h.Root(), dir), markers)
			nothingIn(t, filepath.Join(other.Root(), dir), markers)
		}
		// The search finds what is there: in the Kubernetes API's own store.
		if found := search(t, c.dir, []string{first}); len(found) == 0 {
			t.Error("the search finds nothing, wherever it looks")
		}
	})

	t.Run("another device gets nothing of it", func(t *testing.T) {
		sealed := sealedFor(t, h, "shop")
		keys := deviceKeys(t, h)
		m, err := sealed.OpenMaterial(keys[0], "pi-a", "shop")
		if err != nil || string(m.Objects["secret/shop"]["password"]) != first {
			t.Fatalf("the device itself: %d objects, %v", len(m.Objects), err)
		}
		if _, err := sealed.OpenMaterial(deviceKeys(t, other)[0], "pi-a", "shop"); !errors.Is(err, wire.ErrNotForUs) {
			t.Errorf("opened with another device's key: %v", err)
		}
		forged := *sealed
		forged.Recipient = wire.SealingKeyID(deviceKeys(t, other)[0].PublicKey())
		if _, err := forged.OpenMaterial(deviceKeys(t, other)[0], "pi-a", "shop"); err == nil {
			t.Error("opened with another device's key, and the name of that key")
		}
		nc := c.connectAs(t, other)
		for subject, served := range map[string]bool{
			wire.BucketDesired.DirectGetSubject(wire.ManifestKey("pi-b")):        true,
			wire.BucketDesired.DirectGetSubject(wire.DesiredKey("pi-a", "shop")): false,
			wire.BucketDesired.DirectGetSubject(wire.ManifestKey("pi-a")):        false,
		} {
			answer, err := nc.Request(subject, nil, 2*time.Second)
			if (err == nil) != served {
				t.Errorf("%s for pi-b: %v, %v", subject, answer, err)
			}
		}
	})

	life := func() string {
		return h.ShAs(t, "fleet-agent", "podman inspect -f '{{.Name}} {{.Id}} {{.State.StartedAt}}' $(podman ps -aq) | sort")
	}
	t.Run("new keys", func(t *testing.T) {
		before, had := life(), deviceKeys(t, h)[0]
		enroll(h, "--rotate")
		now := deviceKeys(t, h)
		if now[0].Equal(had) || len(now) != 2 || !now[1].Equal(had) {
			t.Fatalf("%d sealing keys, of which the first is the old one: %t", len(now), now[0].Equal(had))
		}
		began := time.Now()
		eventually(t, 30*time.Second, "sealed to the new key", func() error {
			sealed := sealedFor(t, h, "shop")
			_, err := sealed.OpenMaterial(now[0], "pi-a", "shop")
			return err
		})
		t.Logf("sealed anew within %s", time.Since(began).Round(time.Millisecond))
		running(first)
		if got := life(); got != before {
			t.Errorf("a container was replaced or restarted:\n%s\nbefore:\n%s", got, before)
		}
	})

	t.Run("a change", func(t *testing.T) {
		before := containers(t, h)
		secret.Data = map[string][]byte{"password": []byte(second)}
		if err := c.Update(t.Context(), secret); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		eventually(t, time.Minute, "the new password in the container", says(http.DefaultClient, h.IP(), "/env/PASSWORD", second))
		t.Logf("a change is in the container after %s", time.Since(began).Round(time.Millisecond))
		running(second)
		after := containers(t, h)
		for _, line := range strings.Split(before, "\n") {
			if strings.Contains(line, "beside") != strings.Contains(after, line) {
				t.Errorf("just the service that has the secret is to be replaced; before:\n%s\nafter:\n%s", before, after)
			}
		}
		nothingIn(t, filepath.Join(c.dir, "nats"), markers)
		nothingIn(t, filepath.Join(h.Root(), "var"), markers)
	})

	t.Run("a reboot without a network", func(t *testing.T) {
		boot := func() string {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			out, err := h.Run(ctx, "cat /proc/sys/kernel/random/boot_id")
			if err != nil {
				return ""
			}
			return out.Stdout
		}
		before, had := boot(), containers(t, h)
		h.NetworkDown(t)
		h.Sh(t, "systemctl --no-block reboot")
		eventually(t, time.Minute, "up again", func() error {
			if now := boot(); now == "" || now == before {
				return errors.New("not yet")
			}
			return nil
		})
		inside := &http.Client{Transport: &http.Transport{DialContext: h.Dial, DisableKeepAlives: true}, Timeout: 2 * time.Second}
		eventually(t, 30*time.Second, "the password, without a network", says(inside, "127.0.0.1", "/env/PASSWORD", second))
		eventually(t, 5*time.Second, "the file", says(inside, "127.0.0.1", "/file/etc/shop/password", second))
		if now := containers(t, h); now != had {
			t.Errorf("replaced: %s, before %s", now, had)
		}
		h.NetworkUp(t)
	})
}

// create makes objects in the Kubernetes API.
func (c *controlPlane) create(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatalf("create %T %s: %v", o, o.GetName(), err)
		}
	}
}

// connectAs is a connection to NATS with the identity of a device.
func (c *controlPlane) connectAs(t *testing.T, h *testhost.Host) *nats.Conn {
	t.Helper()
	source := credential.NewOIDC(credential.OIDCConfig{
		Issuer: c.endpoint(t, "issuer"), Project: c.endpoint(t, "projectID"), File: filepath.Join(h.Root(), devicekey.IdentityFile),
		HTTPClient: credential.HTTPClient(c.roots(t)),
	})
	got, err := source.Credential(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(c.endpoint(t, "natsURL"), nats.Token(got.Token.Reveal()), nats.Secure(&tls.Config{RootCAs: c.roots(t), MinVersion: tls.VersionTLS12}),
		nats.CustomInboxPrefix(wire.InboxPrefix(h.Hostname())), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// deviceKeys are the sealing keys of a host, the one in use first.
func deviceKeys(t *testing.T, h *testhost.Host) []*ecdh.PrivateKey {
	t.Helper()
	keys, err := devicekey.SealingKeys(filepath.Join(h.Root(), devicekey.Dir))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// sealedFor is what a device has on its disk for a deployment.
func sealedFor(t *testing.T, h *testhost.Host, deployment string) *wire.Sealed {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(h.Root(), "var/lib/fleet-agent/desired.json"))
	if err != nil {
		t.Fatal(err)
	}
	_, content, _ := bytes.Cut(data, []byte("\n")) // a line with the checksum is before
	var held struct{ States map[string][]byte }
	var state wire.DesiredState
	if err := errors.Join(json.Unmarshal(content, &held), json.Unmarshal(held.States[deployment], &state)); err != nil || state.Sealed == nil {
		t.Fatalf("what %s has on its disk: %v", h.Hostname(), err)
	}
	return state.Sealed
}

// nothingIn wants none of the markers in any file below dir.
func nothingIn(t *testing.T, dir string, markers []string, but ...string) {
	t.Helper()
	for _, found := range search(t, dir, markers, but...) {
		t.Errorf("in clear: %s", found)
	}
}

// search names the files below dir, but for those below some directories, that
// have a marker in them: as it is, or in base64, once or twice.
func search(t *testing.T, dir string, markers []string, but ...string) (found []string) {
	t.Helper()
	var needles [][]byte
	for _, m := range markers {
		once := encodings([]byte(m))
		needles = append(append(needles, []byte(m)), once...)
		for _, e := range once {
			needles = append(needles, encodings(e)...)
		}
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && slices.Contains(but, path) {
			return filepath.SkipDir
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		for _, needle := range needles {
			if bytes.Contains(data, needle) {
				found = append(found, path)
				break
			}
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	return found
}

// encodings is how plain looks in base64, wherever in a text it begins.
func encodings(plain []byte) (out [][]byte) {
	for skip := range 3 {
		part := plain[skip:]
		part = part[:len(part)/3*3]
		out = append(out, []byte(base64.StdEncoding.EncodeToString(part)))
	}
	return out
}
