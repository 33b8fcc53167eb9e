package systemtest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
	"github.com/nationtech/fleetctl/internal/wire"
)

var (
	devices     = schema.GroupVersionResource{Group: "fleet.nationtech.io", Version: "v1alpha1", Resource: "devices"}
	deployments = schema.GroupVersionResource{Group: "fleet.nationtech.io", Version: "v1alpha1", Resource: "deployments"}
)

// TestFleet follows a deployment from the Kubernetes API to a device and its
// report back, through every part that `all` puts together; then the server is
// killed and everything that NATS had is lost.
func TestFleet(t *testing.T) {
	dir := dataDir(t)
	p := start(t, dir, "--allow-psk") // the devices are played
	server := apiClient(t, p)
	if err := server.Ready(t.Context()); err != nil {
		t.Errorf("ready, and its API says: %v", err)
	}
	d := enrol(t, server, "pi-1")
	stranger := enrol(t, server, "pi-2")
	d.connect()
	d.put(wire.BucketInfo, wire.InfoKey(d.ID), wire.DeviceInfo{
		SchemaVersion: wire.SchemaVersion, Device: d.ID, MachineID: d.machine, StartedAt: time.Now(),
		Labels: map[string]string{"site": "lyon"},
	})

	objects := resources(t, p)
	eventually(t, "the device to be an object", func(ctx context.Context) (bool, error) {
		got, err := objects.Resource(devices).Get(ctx, d.ID, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return err == nil && got.GetLabels()["site"] == "lyon" && got.GetLabels()["device-id"] == d.ID, err
	})
	if _, err := objects.Resource(deployments).Namespace("default").Create(t.Context(), hello(), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	manifest := d.awaitManifest(func(m wire.Manifest) bool { return len(m.Deployments) == 1 })
	if name := manifest.Deployments[0].Name; name != "hello" {
		t.Fatalf("the manifest names %q", name)
	}
	raw := d.get(wire.DesiredKey(d.ID, "hello"))
	if wire.Hash(raw) != manifest.Deployments[0].SHA256 {
		t.Error("the desired state is not the one that the manifest names")
	}
	var desired wire.DesiredState
	if err := json.Unmarshal(raw, &desired); err != nil || desired.Score.Type != "PodmanV0" || desired.Generation != 1 {
		t.Fatalf("desired state %s: %v", raw, err)
	}

	report := wire.DeviceState{
		SchemaVersion: wire.SchemaVersion, Device: d.ID, Revision: manifest.Revision, At: time.Now(),
		Deployments: []wire.DeploymentState{{
			Name: "hello", UID: desired.UID, Generation: desired.Generation, Phase: wire.PhaseRunning, Since: time.Now(),
		}},
	}
	d.put(wire.BucketState, wire.StateKey(d.ID), report)
	awaitReadyStatus(t, objects)
	testMetrics(t, p, d, objects)

	p.stop(syscall.SIGKILL)
	if err := os.RemoveAll(filepath.Join(dir, "nats")); err != nil {
		t.Fatal(err)
	}
	p = start(t, dir, "--allow-psk")
	again := d.awaitManifest(func(m wire.Manifest) bool { return len(m.Deployments) == 1 })
	if again.Deployments[0] != manifest.Deployments[0] {
		t.Errorf("after the loss of NATS the device is asked for %+v, before %+v: containers restart", again.Deployments, manifest.Deployments)
	}
	if again.Revision < manifest.Revision {
		t.Errorf("revision %d after %d: the device refuses it", again.Revision, manifest.Revision)
	}
	d.put(wire.BucketState, wire.StateKey(d.ID), report)
	awaitReadyStatus(t, resources(t, p))

	server = apiClient(t, p)
	if _, err := server.Revoke(t.Context(), d.ID); err != nil {
		t.Fatal(err)
	}
	select {
	case <-d.gone:
	case <-time.After(10 * time.Second):
		t.Error("a revoked device is still connected")
	}
	stranger.connect() // after a restart enrolments still count
	p.stopCleanly()
}

func awaitReadyStatus(t *testing.T, objects dynamic.Interface) {
	t.Helper()
	eventually(t, "1/1 in the status", func(ctx context.Context) (bool, error) {
		got, err := objects.Resource(deployments).Namespace("default").Get(ctx, "hello", metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		ready, _, err := unstructured.NestedString(got.Object, "status", "ready")
		return ready == "1/1", err
	})
}

func hello() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "fleet.nationtech.io/v1alpha1", "kind": "Deployment",
		"metadata": map[string]any{"name": "hello"},
		"spec": map[string]any{
			"targetSelector": map[string]any{"matchLabels": map[string]any{"site": "lyon"}},
			"score": map[string]any{"type": "PodmanV0", "data": map[string]any{"services": []any{
				map[string]any{"name": "web", "image": "registry.example.com/hello:1"},
			}}},
		},
	}}
}

func resources(t *testing.T, p *process) dynamic.Interface {
	t.Helper()
	c, err := dynamic.NewForConfig(p.admin())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func apiClient(t *testing.T, p *process) *apiclient.Client {
	t.Helper()
	ca, err := os.ReadFile(p.ready.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	token, err := os.ReadFile(p.ready.AdminTokenFile)
	if err != nil {
		t.Fatal(err)
	}
	c, err := apiclient.New(p.ready.APIURL, ca, strings.TrimSpace(string(token)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// device is what an agent is to the server: a connection with one identity.
type device struct {
	t       *testing.T
	ID      string
	machine string
	e       api.Enrolment
	nc      *nats.Conn
	gone    chan struct{} // closed when the connection was refused for good
}

func enrol(t *testing.T, server *apiclient.Client, id string) *device {
	t.Helper()
	d := &device{t: t, ID: id, machine: strings.Repeat(id[len(id)-1:], 32), gone: make(chan struct{})}
	var err error
	if d.e, err = server.Enrol(t.Context(), id, api.EnrolmentRequest{MachineID: d.machine}); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *device) connect() {
	d.t.Helper()
	nc, err := d.dial(nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond),
		nats.ClosedHandler(func(*nats.Conn) { close(d.gone) }))
	if err != nil {
		d.t.Fatal(err)
	}
	d.nc = nc
	d.t.Cleanup(nc.Close)
}

// dial opens one more connection as the device.
func (d *device) dial(more ...nats.Option) (*nats.Conn, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(d.e.CAPEM)) {
		return nil, errors.New("enrolled without a CA")
	}
	return nats.Connect(strings.Join(d.e.NATSURLs, ","), append([]nats.Option{nats.UserInfo(d.ID, string(d.e.PSK)),
		nats.Secure(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}), nats.CustomInboxPrefix(wire.InboxPrefix(d.ID))}, more...)...)
}

// put reports, as often as it takes to be acknowledged.
func (d *device) put(b wire.Bucket, key string, v any) {
	d.t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		d.t.Fatal(err)
	}
	eventually(d.t, "the report "+key+" to be acknowledged", func(context.Context) (bool, error) {
		reply, err := d.nc.Request(b.Subject(key), data, 2*time.Second)
		if err != nil {
			return false, nil
		}
		return !strings.Contains(string(reply.Data), `"error"`), nil
	})
}

func (d *device) get(key string) []byte {
	d.t.Helper()
	reply, err := d.nc.Request(wire.BucketDesired.DirectGetSubject(key), nil, 5*time.Second)
	if err != nil {
		d.t.Fatal(err)
	}
	if status := reply.Header.Get("Status"); status != "" {
		d.t.Fatalf("get %s: %s %s", key, status, reply.Header.Get("Description"))
	}
	return reply.Data
}

// awaitManifest gets the manifest until it is as wanted, and checks its signature.
func (d *device) awaitManifest(wanted func(wire.Manifest) bool) wire.Manifest {
	d.t.Helper()
	var m wire.Manifest
	eventually(d.t, "the manifest", func(context.Context) (bool, error) {
		reply, err := d.nc.Request(wire.BucketDesired.DirectGetSubject(wire.ManifestKey(d.ID)), nil, 2*time.Second)
		if err != nil || reply.Header.Get("Status") != "" {
			return false, nil // not there yet, or the server is not
		}
		if err := wire.Open(wire.KindManifest, reply.Data, d.e.SigningKeys.Keys, &m); err != nil {
			return false, err
		}
		return wanted(m), m.Validate(d.ID)
	})
	return m
}
