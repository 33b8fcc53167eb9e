package broker_test

import (
	"context"
	"errors"
	"testing"

	"github.com/nationtech/fleetctl/internal/broker/kv"
	"github.com/nationtech/fleetctl/internal/wire"
)

// TestWatchReports follows reports that real devices write.
func TestWatchReports(t *testing.T) {
	f := newFleet(t)
	one, two := f.device(t, "pi-1"), f.device(t, "pi-2")
	put := func(d *device, json string) {
		t.Helper()
		if err := d.put(wire.BucketHeartbeat, wire.HeartbeatKey(d.id), []byte(json)); err != nil {
			t.Fatal(err)
		}
	}
	put(one, `{"device":"pi-1","revision":1}`)
	put(one, `{"device":"pi-1","revision":2}`)

	ctx, stop := context.WithCancel(t.Context())
	updates := make(chan kv.Update[wire.Heartbeat], 16)
	synced := make(chan struct{}, 16)
	ended := make(chan error, 1)
	go func() {
		ended <- f.store.WatchHeartbeats(ctx, kv.Handler[wire.Heartbeat]{
			Update: func(u kv.Update[wire.Heartbeat]) { updates <- u },
			Synced: func() { synced <- struct{}{} },
		})
	}()
	next := func() kv.Update[wire.Heartbeat] {
		t.Helper()
		select {
		case u := <-updates:
			return u
		case <-timeout(t).Done():
			t.Fatal("no update")
			panic("unreachable")
		}
	}

	// What was there, the last value only, then in sync.
	first := next()
	if first.Device != "pi-1" || first.Value.Revision != 2 || first.At.IsZero() {
		t.Fatalf("%+v", first)
	}
	<-synced
	put(two, `{"device":"pi-2","revision":3}`)
	if u := next(); u.Device != "pi-2" || u.Value.Revision != 3 || u.Revision <= first.Revision {
		t.Fatalf("%+v", u)
	}
	// What a device writes need not make sense.
	for _, bad := range []string{`{"device":"pi-2"}`, `{`, ``, `[]`} {
		put(one, bad)
		if u := next(); u.Device != "pi-1" || u.Err == nil || u.Value.Revision != 0 {
			t.Fatalf("%q gave %+v", bad, u)
		}
	}
	// A device is forgotten, and reports again.
	if err := f.store.ForgetDevice(timeout(t), "pi-1"); err != nil {
		t.Fatal(err)
	}
	put(one, `{"device":"pi-1","revision":9}`)
	if u := next(); u.Value.Revision != 9 {
		t.Fatalf("%+v", u)
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatalf("ended with %v", err)
	}
}
