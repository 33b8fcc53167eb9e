//go:build apiserver

package operator_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/broker"
	"github.com/nationtech/fleetctl/internal/broker/kv"
	"github.com/nationtech/fleetctl/internal/pki"
	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
	"github.com/nationtech/fleetctl/operator/operatortest"
)

var truthDevices = flag.Int("truth.devices", 200, "devices whose desired state is rebuilt after JetStream was deleted")

const (
	groupSize    = 10 // devices of a Deployment
	rebuildLimit = 60 * time.Second
)

// TestJetStreamIsDeletedWhileRunning: every bucket of a real NATS server is
// deleted under a running operator, twice. All that devices should run is there
// again within a minute, under newer revisions, and no manifest in between says
// that a device should run less.
func TestJetStreamIsDeletedWhileRunning(t *testing.T) {
	f := newFleet(t)
	ctx := t.Context()
	ca, err := pki.Open(t.TempDir() + "/pki")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.ServerCert("nats", []string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	b, err := broker.Start(ctx, broker.Config{DataDir: t.TempDir() + "/nats", Listen: "127.0.0.1:0", TLS: cert.TLSConfig(), Devices: *truthDevices, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	conn, err := b.ConnectOperator()
	if err != nil {
		t.Fatal(err)
	}
	store, err := kv.Open(conn)
	if err != nil {
		t.Fatal(err)
	}
	f.makeFleet(*truthDevices)

	op, err := operator.New(operatortest.Config(t), operator.Options{Store: store, Signer: f.signer, Timing: operator.DefaultTiming(), Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() {
		if err := op.Run(running); err != nil {
			t.Errorf("operator: %v", err)
		}
	})
	defer ended.Wait()
	defer stop()

	told := &toldDevices{fleet: f, store: store, revision: map[string]uint64{}}
	took := told.await(*truthDevices, 5*time.Minute)
	t.Logf("%d devices told in %s", *truthDevices, took.Round(10*time.Millisecond))
	for range 2 {
		if err := b.Wipe(ctx); err != nil {
			t.Fatal(err)
		}
		took := told.await(*truthDevices, rebuildLimit)
		t.Logf("%d devices told again %s after JetStream was deleted", *truthDevices, took.Round(10*time.Millisecond))
	}
}

// makeFleet makes devices and a Deployment for every groupSize of them.
func (f *fleet) makeFleet(devices int) {
	f.Helper()
	now := metav1.Now()
	group, ctx := errgroup.WithContext(f.Context())
	group.SetLimit(32)
	for i := range devices {
		group.Go(func() error {
			return f.client.Create(ctx, &v1alpha1.Device{
				ObjectMeta: metav1.ObjectMeta{
					Name: fmt.Sprintf("d-%05d", i), Finalizers: []string{v1alpha1.FinalizerOffboard},
					Labels: map[string]string{"device-id": fmt.Sprintf("d-%05d", i), "group": fmt.Sprintf("g-%d", i/groupSize)},
				},
				Spec: v1alpha1.DeviceSpec{MachineID: "m", Enrolled: &now},
			}, client.FieldOwner(v1alpha1.ManagerServer))
		})
	}
	if err := group.Wait(); err != nil {
		f.Fatal(err)
	}
	for i := 0; i*groupSize < devices; i++ {
		name := fmt.Sprintf("g-%d", i)
		f.deploy("default", name, "nginx", labels{"group": v1alpha1.LabelValue(name)})
	}
}

// toldDevices reads what the store tells devices, and remembers revisions.
type toldDevices struct {
	*fleet
	store    *kv.Store
	revision map[string]uint64
}

// await waits until each device is told of its one deployment, with a newer
// revision than the last time.
func (d *toldDevices) await(devices int, limit time.Duration) time.Duration {
	d.Helper()
	began, last := time.Now(), ""
	done := map[string]uint64{}
	for time.Since(began) < limit {
		last = ""
		for i := range devices {
			id := fmt.Sprintf("d-%05d", i)
			if done[id] > 0 {
				continue
			}
			revision, err := d.look(id, fmt.Sprintf("g-%d", i/groupSize))
			if err != nil {
				last = err.Error()
				break // in order: a fleet is not asked about again and again
			}
			done[id] = revision
		}
		if last == "" {
			d.revision = done
			return time.Since(began)
		}
		time.Sleep(50 * time.Millisecond)
	}
	d.Fatalf("after %s %d of %d devices are told; %s", limit, len(done), devices, last)
	return 0
}

func (d *toldDevices) look(id, deployment string) (uint64, error) {
	v, err := d.store.Get(d.Context(), wire.BucketDesired, wire.ManifestKey(id))
	if err != nil {
		return 0, err
	}
	var m wire.Manifest
	if err := errors.Join(wire.Open(wire.KindManifest, v.Data, d.signer.Pinned().Keys, &m), m.Validate(id)); err != nil {
		return 0, err
	}
	if m.Revision <= d.revision[id] {
		return 0, fmt.Errorf("%s has revision %d, which is not newer than %d", id, m.Revision, d.revision[id])
	}
	if len(m.Deployments) != 1 || m.Deployments[0].Name != deployment {
		if d.revision[id] > 0 {
			d.Errorf("in between %s was told to run %v", id, m.Deployments)
		}
		return 0, fmt.Errorf("%s is told to run %v", id, m.Deployments)
	}
	data, err := d.store.Get(d.Context(), wire.BucketDesired, wire.DesiredKey(id, deployment))
	if err != nil {
		return 0, err
	}
	if wire.Hash(data.Data) != m.Deployments[0].SHA256 {
		return 0, fmt.Errorf("%s is told of another %s than there is", id, deployment)
	}
	return m.Revision, nil
}
