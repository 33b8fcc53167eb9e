package systemtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/broker/accounts"
	"github.com/nationtech/fleetctl/internal/fleetsim"
	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

const (
	clusterDevices = 500
	// greenWithin is how long the fleet may be without any of its functions
	// after one process of the control plane was killed.
	greenWithin = 30 * time.Second
)

// TestClusterSurvivesItsParts runs a fleet on a cluster and kills each process
// of the control plane in turn, by SIGKILL and at a moment that the seed
// chooses. After each, the whole thread has to work again soon, with a killed
// part still dead; in the end no report of a device may be missing.
func TestClusterSurvivesItsParts(t *testing.T) {
	if testing.Short() {
		t.Skip("two minutes")
	}
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // any number will do
	if s := os.Getenv("FLEET_TEST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("FLEET_TEST_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	c := startCluster(t)
	probe := newProbe(t, c)
	probe.awaitGreen("before anything was killed", startDeadline)
	c.checkPublic(t)
	c.checkMetrics(t)
	c.checkPresence(t)

	loading, stop := make(chan struct{}), make(chan struct{})
	result := make(chan fleetsim.Result, 1)
	failed := make(chan error, 1)
	go func() {
		r, err := c.play(t.Context(), seed, loading, stop)
		failed <- err
		result <- r
	}()
	select {
	case <-loading:
	case err := <-failed:
		t.Fatalf("the fleet did not come up: %v", err)
	}

	victims := append(c.parts(), c.nats...)
	random.Shuffle(len(victims), func(i, j int) { victims[i], victims[j] = victims[j], victims[i] })
	for _, victim := range victims {
		time.Sleep(time.Duration(random.IntN(500)) * time.Millisecond) // the seed's moment, not a wait
		victim.kill()
		server := victim.status == ""
		if server {
			// Started again at once, as its pod is: the buckets of reports have
			// one copy, on one of the servers (docs/decisions/0008).
			victim.start()
			victim.reap()
		}
		took := probe.awaitGreen("after "+victim.name+" was killed", greenWithin)
		t.Logf("%-12s killed; green again after %s", victim.name, took.Round(10*time.Millisecond))
		if server {
			// The next server may only go once this one has its copies again.
			probe.awaitReplicas()
			continue
		}
		victim.start()
		victim.reap()
		c.awaitReady(victim)
	}

	probe.stopLeader(t)
	probe.undo()

	close(stop)
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	r := <-result
	t.Logf("%d writes acknowledged, %d failed and were repeated (first: %s)", r.Writes, r.Errors, r.FirstError)
	if r.AggregatesRight != r.Deployments {
		t.Errorf("%d of %d aggregates are right: %v", r.AggregatesRight, r.Deployments, r.Wrong)
	}
	c.rotateSigningKey(t)
	for _, p := range c.parts() {
		p.terminate()
	}
	c.checkRights(t)
}

// play runs the fleet until stop is closed, and judges.
func (c *cluster) play(ctx context.Context, seed uint64, loading, stop chan struct{}) (fleetsim.Result, error) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return fleetsim.Result{}, err
	}
	kube, err := ctrl.New(c.restConfig(), ctrl.Options{Scheme: scheme})
	if err != nil {
		return fleetsim.Result{}, err
	}
	server := c.client()
	begun := false
	return fleetsim.Run(ctx, fleetsim.Config{
		Devices: clusterDevices, Deployments: 20, Rate: 200, Duration: time.Hour, Stop: stop, Seed: seed, Namespace: "default",
		Enrol: server.Enrol,
		Revoke: func(ctx context.Context, device string) error {
			_, err := server.Revoke(ctx, device)
			return err
		},
		Kube: kube,
		Log:  slog.New(slog.DiscardHandler),
		Progress: func(phase string, _, _ int) {
			if phase == fleetsim.PhaseLoad && !begun {
				begun = true
				close(loading)
			}
		},
	})
}

// probe is one device and one Deployment of its own, to see whether the fleet
// does all that it should.
type probe struct {
	t       *testing.T
	c       *cluster
	device  *device
	objects dynamic.Interface
	round   int
}

func newProbe(t *testing.T, c *cluster) *probe {
	t.Helper()
	p := &probe{t: t, c: c}
	var err error
	if p.objects, err = dynamic.NewForConfig(c.restConfig()); err != nil {
		t.Fatal(err)
	}
	p.device = enrol(t, c.client(), "probe-1")
	d := hello()
	d.SetName("probe")
	if err := unstructured.SetNestedStringMap(d.Object, map[string]string{"device-id": p.device.ID}, "spec", "targetSelector", "matchLabels"); err != nil {
		t.Fatal(err)
	}
	if err := unstructured.SetNestedField(d.Object, int64(1), "spec", "revisionHistoryLimit"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.objects.Resource(deployments).Namespace("default").Create(t.Context(), d, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return p
}

// awaitGreen follows one change through every part: the device is let in anew,
// a Deployment changes, its manifest arrives and is signed, the report counts,
// and a command is answered for. It says how long that took in all.
func (p *probe) awaitGreen(when string, within time.Duration) time.Duration {
	p.t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(p.t.Context(), within)
	defer cancel()
	var last error
	for p.round++; ; {
		if last = p.green(ctx); last == nil {
			return time.Since(began)
		}
		select {
		case <-ctx.Done():
			p.t.Fatalf("%s: not green within %s: %v", when, within, last)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (p *probe) green(ctx context.Context) error {
	nc, err := p.device.dial()
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer nc.Close()
	put := func(b wire.Bucket, key string, v any) error {
		data, err := json.Marshal(v)
		if err != nil {
			return err
		}
		reply, err := nc.Request(b.Subject(key), data, 2*time.Second)
		if err != nil {
			return fmt.Errorf("put %s: %w", key, err)
		}
		var ack struct {
			Error *struct{ Description string } `json:"error"`
		}
		if err := json.Unmarshal(reply.Data, &ack); err != nil || ack.Error != nil {
			return fmt.Errorf("put %s: %s", key, reply.Data)
		}
		return nil
	}
	id := p.device.ID
	if err := put(wire.BucketInfo, wire.InfoKey(id), wire.DeviceInfo{SchemaVersion: wire.SchemaVersion, Device: id,
		MachineID: p.device.machine, StartedAt: time.Now()}); err != nil {
		return err
	}
	generation, err := p.change(ctx)
	if err != nil {
		return err
	}
	revision, desired, err := p.fetch(ctx, nc, generation)
	if err != nil {
		return err
	}
	if err := put(wire.BucketState, wire.StateKey(id), wire.DeviceState{
		SchemaVersion: wire.SchemaVersion, Device: id, Revision: revision, At: time.Now(),
		Deployments: []wire.DeploymentState{{Name: "probe", UID: desired.UID, Generation: desired.Generation, Phase: wire.PhaseRunning, Since: time.Now()}},
	}); err != nil {
		return err
	}
	if err := p.counted(ctx, generation); err != nil {
		return err
	}
	return p.reachable(ctx)
}

// change edits the Deployment, once a round, and gives its generation.
func (p *probe) change(ctx context.Context) (int64, error) {
	patch := fmt.Appendf(nil, `{"spec":{"score":{"data":{"services":[{"name":"web","image":"registry.example.com/probe:%d"}]}}}}`, p.round)
	got, err := p.objects.Resource(deployments).Namespace("default").Patch(ctx, "probe", types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return 0, fmt.Errorf("change the Deployment: %w", err)
	}
	return got.GetGeneration(), nil
}

// fetch gets the signed manifest and the desired state of the generation, as an
// agent does.
func (p *probe) fetch(ctx context.Context, nc *nats.Conn, generation int64) (revision uint64, d wire.DesiredState, err error) {
	get := func(key string) ([]byte, error) {
		reply, err := nc.Request(wire.BucketDesired.DirectGetSubject(key), nil, 2*time.Second)
		if err != nil {
			return nil, fmt.Errorf("get %s: %w", key, err)
		}
		if status := reply.Header.Get("Status"); status != "" {
			return nil, fmt.Errorf("get %s: %s", key, status)
		}
		return reply.Data, nil
	}
	last := errors.New("no time left")
	for range 20 {
		if revision, d, last = p.fetchOnce(get, generation); last == nil || !sleep(ctx, 100*time.Millisecond) {
			break
		}
	}
	return revision, d, last
}

func (p *probe) fetchOnce(get func(string) ([]byte, error), generation int64) (revision uint64, d wire.DesiredState, err error) {
	raw, err := get(wire.ManifestKey(p.device.ID))
	if err != nil {
		return 0, d, err
	}
	var m wire.Manifest
	if err := wire.Open(wire.KindManifest, raw, p.device.e.SigningKeys.Keys, &m); err != nil {
		return 0, d, err
	}
	if len(m.Deployments) != 1 {
		return 0, d, fmt.Errorf("the manifest lists %d deployments", len(m.Deployments))
	}
	if raw, err = get(wire.DesiredKey(p.device.ID, "probe")); err != nil {
		return 0, d, err
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return 0, d, err
	}
	if wire.Hash(raw) != m.Deployments[0].SHA256 || d.Generation != generation {
		return 0, d, fmt.Errorf("generation %d of %d in the bucket", d.Generation, generation)
	}
	return m.Revision, d, nil
}

// awaitReplicas waits until every server has every bucket again.
func (p *probe) awaitReplicas() {
	p.t.Helper()
	seed, err := os.ReadFile(p.c.path("keys", "operator", accounts.RoleBuckets+".nk"))
	if err != nil {
		p.t.Fatal(err)
	}
	key, err := nkeys.FromSeed(seed)
	if err != nil {
		p.t.Fatal(err)
	}
	nc, err := nats.Connect(strings.Join(p.c.natsURLs, ","), nats.RootCAs(p.c.ca.Path()), nats.Nkey(p.c.keys[accounts.RoleBuckets], key.Sign),
		nats.CustomInboxPrefix(accounts.Inbox(accounts.RoleBuckets)))
	if err != nil {
		p.t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, b := range wire.Buckets() {
		eventually(p.t, "all replicas of "+string(b), func(ctx context.Context) (bool, error) {
			stream, err := js.Stream(ctx, b.Stream())
			if err != nil {
				return false, nil
			}
			cluster := stream.CachedInfo().Cluster
			copies := natsNodes
			if b != wire.BucketDesired {
				copies = 1
			}
			if cluster == nil || cluster.Leader == "" || len(cluster.Replicas) != copies-1 {
				return false, nil
			}
			for _, r := range cluster.Replicas {
				if !r.Current || r.Offline {
					return false, nil
				}
			}
			return true, nil
		})
	}
}

// undo gives the Deployment what it had before, and waits until the operator has
// taken that for the newest revision again: it is the last thing that an
// operator has a right to and that nothing above makes it do.
func (p *probe) undo() {
	p.t.Helper()
	p.round--
	if _, err := p.change(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
	want := fmt.Sprintf("registry.example.com/probe:%d", p.round)
	revisions := v1alpha1.GroupVersion.WithResource("deploymentrevisions")
	eventually(p.t, "an old revision to be the newest", func(ctx context.Context) (bool, error) {
		list, err := p.objects.Resource(revisions).Namespace("default").List(ctx, metav1.ListOptions{LabelSelector: v1alpha1.LabelDeployment + "=probe"})
		if err != nil {
			return false, err
		}
		var newest int64
		var image string
		for _, r := range list.Items {
			number, _, _ := unstructured.NestedInt64(r.Object, "spec", "revision")
			services, _, _ := unstructured.NestedSlice(r.Object, "spec", "score", "data", "services")
			if number > newest && len(services) == 1 {
				newest = number
				image, _, _ = unstructured.NestedString(services[0].(map[string]any), "image")
			}
		}
		return image == want, nil
	})
}

// counted waits until the status says that the device runs this generation.
func (p *probe) counted(ctx context.Context, generation int64) error {
	var last string
	for range 20 {
		got, err := p.objects.Resource(deployments).Namespace("default").Get(ctx, "probe", metav1.GetOptions{})
		if err != nil {
			return err
		}
		observed, _, _ := unstructured.NestedInt64(got.Object, "status", "observedGeneration")
		ready, _, _ := unstructured.NestedString(got.Object, "status", "ready")
		if observed == generation && ready == "1/1" {
			return nil
		}
		last = fmt.Sprintf("generation %d of %d, %s ready", observed, generation, ready)
		if !sleep(ctx, 100*time.Millisecond) {
			break
		}
	}
	return fmt.Errorf("the status says %s", last)
}

// reachable asks the HTTPS API about the device, unless that is what is dead:
// there is one, and its clients try again.
func (p *probe) reachable(ctx context.Context) error {
	select {
	case <-p.c.dashboard.exited:
		return nil
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	d, err := p.c.client().Device(ctx, p.device.ID)
	if err != nil {
		return fmt.Errorf("ask the HTTPS API: %w", err)
	}
	if d.State == nil || !d.Connected {
		return fmt.Errorf("the HTTPS API says of the device: %+v", d)
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
