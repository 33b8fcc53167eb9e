//go:build apiserver

package operator_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/broker/presence"
	"github.com/nationtech/fleetctl/internal/signing"
	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
	"github.com/nationtech/fleetctl/operator/crd"
	"github.com/nationtech/fleetctl/operator/memstore"
	"github.com/nationtech/fleetctl/operator/operatortest"
)

func TestMain(m *testing.M) { os.Exit(operatortest.Main(m)) }

// deadline is how long anything in these tests may take to come true.
const deadline = 20 * time.Second

// emptyLimit is how long it may take to remove what a test made.
const emptyLimit = 3 * time.Minute

// fleet is a real API server, a store, and what tests do with them. Everything
// in the API is removed when the test ends.
type fleet struct {
	*testing.T
	client client.Client
	store  *memstore.Store
	signer *signing.Signer
	timing operator.Timing
	links  *links
	// shutOut is what was taken from devices, in order.
	shutOut []string
}

// RemoveDevice implements operator.Identities.
func (f *fleet) RemoveDevice(_ context.Context, device string) error {
	f.shutOut = append(f.shutOut, "key of "+device)
	return nil
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	if err := crd.Install(t.Context(), operatortest.Config(t)); err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	config := operatortest.Config(t)
	config.QPS = -1
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	signer, err := signing.Open(t.TempDir() + "/signing")
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{T: t, client: c, store: memstore.New(), signer: signer, timing: quickTiming()}
	f.links = &links{fleet: f, up: map[string]presence.Connection{}}
	t.Cleanup(f.empty)
	return f
}

func quickTiming() operator.Timing {
	timing := operator.DefaultTiming()
	timing.StatusInterval = 20 * time.Millisecond
	timing.Coalesce = 10 * time.Millisecond
	timing.PresenceTick = 50 * time.Millisecond
	timing.AuditInterval = 200 * time.Millisecond
	timing.OffboardPoll = 20 * time.Millisecond
	timing.OffboardGrace = 300 * time.Millisecond
	timing.LeaseDuration = 6 * time.Second // a leader on a busy machine renews it in time
	return timing
}

// empty removes every object, finalizers first: no operator runs any more.
func (f *fleet) empty() {
	ctx, cancel := context.WithTimeout(context.Background(), emptyLimit)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(32)
	drop := func(o client.Object) {
		group.Go(func() error {
			patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`))
			if err := client.IgnoreNotFound(f.client.Patch(ctx, o, patch)); err != nil {
				return err
			}
			return client.IgnoreNotFound(f.client.Delete(ctx, o))
		})
	}
	defer func() {
		if err := group.Wait(); err != nil {
			f.Error(err)
		}
	}()
	var deployments v1alpha1.DeploymentList
	var devices v1alpha1.DeviceList
	var revisions v1alpha1.DeploymentRevisionList // nobody collects garbage behind the fence
	for _, list := range []client.ObjectList{&deployments, &devices, &revisions} {
		if err := f.client.List(ctx, list); err != nil {
			f.Error(err)
		}
	}
	for i := range deployments.Items {
		drop(&deployments.Items[i])
	}
	for i := range revisions.Items {
		drop(&revisions.Items[i])
	}
	for i := range devices.Items {
		drop(&devices.Items[i])
	}
}

// run starts an operator and gives what ends it. The test ends it otherwise.
func (f *fleet) run(election *operator.LeaderElection) (op *operator.Operator, stop func()) {
	f.Helper()
	op = f.operator(operatortest.Config(f), f.store, election)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- op.Run(ctx) }()
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				f.Errorf("operator: %v", err)
			}
		case <-time.After(deadline):
			f.Error("the operator does not end")
		}
	}
	f.Cleanup(stop)
	return op, stop
}

// start is run, waiting until the operator is ready.
func (f *fleet) operator(config *rest.Config, store operator.Store, election *operator.LeaderElection) *operator.Operator {
	f.Helper()
	logs := io.Discard
	if testing.Verbose() {
		logs = f.Output()
	}
	op, err := operator.New(config, operator.Options{
		Store: store, Signer: f.signer, Links: f.links, Identities: f, Timing: f.timing, LeaderElection: election,
		Log: slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelInfo})),
	})
	if err != nil {
		f.Fatal(err)
	}
	return op
}

func (f *fleet) start() (stop func()) {
	f.Helper()
	op, stop := f.run(nil)
	select {
	case <-op.Ready():
	case <-time.After(deadline):
		f.Fatal("the operator is not ready")
	}
	return stop
}

func (f *fleet) eventually(what string, check func() string) {
	f.Helper()
	last := ""
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if last = check(); last == "" {
			return
		}
	}
	f.Fatalf("%s: still %s", what, last)
}

// device is enrolled, and reports itself as an agent does.
func (f *fleet) device(id string, labels map[string]string) {
	f.Helper()
	now := metav1.Now()
	err := f.client.Create(f.Context(), &v1alpha1.Device{
		ObjectMeta: metav1.ObjectMeta{Name: id}, Spec: v1alpha1.DeviceSpec{MachineID: "machine-" + id, Enrolled: &now},
	}, client.FieldOwner(v1alpha1.ManagerServer))
	if client.IgnoreAlreadyExists(err) != nil {
		f.Fatal(err)
	}
	f.links.connected(id, true)
	f.reportInfo(id, "machine-"+id, labels)
	if err := f.store.Put(wire.BucketHeartbeat, wire.HeartbeatKey(id), wire.Heartbeat{SchemaVersion: 1, Device: id, At: time.Now()}); err != nil {
		f.Fatal(err)
	}
}

func (f *fleet) reportInfo(id, machine string, labels map[string]string) {
	f.Helper()
	info := wire.DeviceInfo{
		SchemaVersion: 1, Device: id, MachineID: machine, Labels: labels,
		Inventory: wire.Inventory{Hostname: id, Architecture: "arm64", MemoryBytes: 1 << 30}, StartedAt: time.Now(),
	}
	if err := f.store.Put(wire.BucketInfo, wire.InfoKey(id), info); err != nil {
		f.Fatal(err)
	}
}

func (f *fleet) reportState(id string, revision uint64, states ...wire.DeploymentState) {
	f.Helper()
	s := wire.DeviceState{SchemaVersion: 1, Device: id, Revision: revision, At: time.Now(), Deployments: states}
	if err := f.store.Put(wire.BucketState, wire.StateKey(id), s); err != nil {
		f.Fatal(err)
	}
}

func (f *fleet) deploy(namespace, name, image string, selector map[string]v1alpha1.LabelValue) *v1alpha1.Deployment {
	f.Helper()
	d := &v1alpha1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.DeploymentSpec{
			TargetSelector: v1alpha1.LabelSelector{MatchLabels: selector},
			Score: v1alpha1.Score{Type: wire.ScorePodmanV0, Data: v1alpha1.ScoreData{
				Services: []v1alpha1.Service{{Name: "web", Image: image, Ports: []v1alpha1.Port{"8080:80"}}},
			}},
		},
	}
	if err := f.client.Create(f.Context(), d); err != nil {
		f.Fatal(err)
	}
	return d
}

func (f *fleet) patch(o client.Object, merge string) {
	f.Helper()
	if err := f.client.Patch(f.Context(), o, client.RawPatch("application/merge-patch+json", []byte(merge)), client.FieldOwner("kubectl-label")); err != nil {
		f.Fatal(err)
	}
}

func (f *fleet) getDevice(id string) *v1alpha1.Device {
	d := &v1alpha1.Device{}
	if err := f.client.Get(f.Context(), client.ObjectKey{Name: id}, d); client.IgnoreNotFound(err) != nil {
		f.Fatal(err)
	}
	return d
}

func (f *fleet) reload(d *v1alpha1.Deployment) *v1alpha1.Deployment {
	out := &v1alpha1.Deployment{}
	if err := f.client.Get(f.Context(), client.ObjectKeyFromObject(d), out); client.IgnoreNotFound(err) != nil {
		f.Fatal(err)
	}
	return out
}

// told is what the store tells the devices, with everything in it verified:
// "pi-1: hello, other; pi-2:". It is what an agent would act on.
func (f *fleet) told() (string, error) {
	snapshot := f.store.Snapshot()
	listed := map[string]bool{}
	var out []string
	for _, key := range slices.Sorted(maps.Keys(snapshot)) {
		device, deployment, ok := wire.ParseDesiredKey(key)
		if !ok || deployment != "" {
			continue
		}
		var m wire.Manifest
		if err := wire.Open(wire.KindManifest, snapshot[key], f.signer.Pinned().Keys, &m); err != nil {
			return "", err
		}
		if err := m.Validate(device); err != nil {
			return "", err
		}
		var names []string
		for _, e := range m.Deployments {
			data := snapshot[wire.DesiredKey(device, e.Name)]
			if wire.Hash(data) != e.SHA256 {
				return "", fmt.Errorf("%s lists %s with another hash", device, e.Name)
			}
			listed[wire.DesiredKey(device, e.Name)] = true
			names = append(names, e.Name)
		}
		out = append(out, strings.TrimRight(device+": "+strings.Join(names, ", "), " "))
	}
	for key := range snapshot {
		if strings.Contains(key, ".") && !listed[key] {
			return "", fmt.Errorf("key %s is in no manifest", key)
		}
	}
	return strings.Join(out, "; "), nil
}

func (f *fleet) wantTold(want string) {
	f.Helper()
	f.eventually("devices are told "+want, func() string {
		switch got, err := f.told(); {
		case err != nil:
			return err.Error()
		case got != want:
			return fmt.Sprintf("%q", got)
		}
		return ""
	})
}

func (f *fleet) revision(device string) uint64 {
	f.Helper()
	var e wire.Envelope
	var m wire.Manifest
	if err := json.Unmarshal(f.store.Snapshot()[device], &e); err != nil {
		f.Fatal(err)
	}
	if err := json.Unmarshal(e.Payload, &m); err != nil {
		f.Fatal(err)
	}
	return m.Revision
}
