package broker_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/nationtech/fleetctl/agent/link"
	"github.com/nationtech/fleetctl/internal/broker/kv"
	"github.com/nationtech/fleetctl/internal/identity/role"
	"github.com/nationtech/fleetctl/internal/wire"
)

var manyDevices = flag.Int("consumers.devices", 400, "devices of the large fleet in TestConsumersDoNotGrow")

// TestConsumersDoNotGrow: a server falls over at tens of thousands of consumers,
// so a fleet of any size has the same few, those of the operator's watches. What
// a device adds is its connection and its subscriptions, the same for each.
func TestConsumersDoNotGrow(t *testing.T) {
	const few = 20
	f := newFleet(t)
	synced := make(chan struct{}, 3)
	started := func() { synced <- struct{}{} }
	go func() {
		_ = f.store.WatchStates(t.Context(), kv.Handler[wire.DeviceState]{Update: func(kv.Update[wire.DeviceState]) {}, Synced: started})
	}()
	go func() {
		_ = f.store.WatchInfos(t.Context(), kv.Handler[wire.DeviceInfo]{Update: func(kv.Update[wire.DeviceInfo]) {}, Synced: started})
	}()
	go func() {
		_ = f.store.WatchHeartbeats(t.Context(), kv.Handler[wire.Heartbeat]{Update: func(kv.Update[wire.Heartbeat]) {}, Synced: started})
	}()
	for range cap(synced) {
		<-synced
	}
	sign := f.issuer.Signer()
	devices := 0
	grow := func(to int) (consumers, subscriptions int) {
		t.Helper()
		var all errgroup.Group
		all.SetLimit(32)
		for ; devices < to; devices++ {
			id := fmt.Sprintf("pi-%d", devices)
			token := stormToken(sign(f.issuer.Claims("device-"+id, role.Device)))
			all.Go(func() error { return f.agent(t.Context(), id, token) })
		}
		if err := all.Wait(); err != nil {
			t.Fatal(err)
		}
		return f.consumers(t), int(f.broker.Server().NumSubscriptions())
	}
	none, before := grow(0)
	fewConsumers, fewSubscriptions := grow(few)
	manyConsumers, manySubscriptions := grow(*manyDevices)
	perDevice := (fewSubscriptions - before) / few
	t.Logf("%d consumers without devices, %d with %d, %d with %d; %d, %d, %d subscriptions", none, fewConsumers, few,
		manyConsumers, *manyDevices, before, fewSubscriptions, manySubscriptions)
	if none != 3 || fewConsumers != none || manyConsumers != none {
		t.Errorf("%d, %d, %d consumers: one for each bucket of reports is enough", none, fewConsumers, manyConsumers)
	}
	if most := before + *manyDevices*(perDevice+1); perDevice > 8 || manySubscriptions > most {
		t.Errorf("%d subscriptions a device, %d in all", perDevice, manySubscriptions)
	}
}

// agent does what an agent does of which the server has to remember something.
func (f *fleet) agent(ctx context.Context, id string, token stormToken) error {
	up := make(chan struct{}, 1)
	l, err := link.Open(ctx, link.Config{Device: id, URLs: []string{f.url()}, Roots: f.ca.Pool(), Source: token,
		Log: slog.New(slog.DiscardHandler), Connected: func() { up <- struct{}{} }})
	if err != nil {
		return err
	}
	f.t.Cleanup(func() { _ = l.Close(context.Background()) })
	<-up
	for _, subject := range []string{wire.HintSubject(id), wire.CommandSubject(id, "*")} {
		if err := l.Subscribe(subject, func(string, []byte) {}); err != nil {
			return err
		}
	}
	for _, put := range []struct {
		bucket wire.Bucket
		key    string
	}{{wire.BucketInfo, wire.InfoKey(id)}, {wire.BucketHeartbeat, wire.HeartbeatKey(id)}, {wire.BucketState, wire.StateKey(id)}} {
		if err := l.Put(ctx, put.bucket, put.key, []byte("{}")); err != nil {
			return err
		}
	}
	_, _, err = l.Get(ctx, wire.BucketDesired, wire.ManifestKey(id))
	return err
}

// consumers counts those of all buckets.
func (f *fleet) consumers(t *testing.T) (n int) {
	t.Helper()
	js := f.admin(t)
	for _, b := range wire.Buckets() {
		stream := must(js.Stream(timeout(t), b.Stream()))(t)
		n += must(stream.Info(timeout(t)))(t).State.Consumers
	}
	return n
}
