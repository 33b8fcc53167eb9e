package broker_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleetctl/internal/broker/presence"
	"github.com/nationtech/fleetctl/internal/pki"
	"github.com/nationtech/fleetctl/internal/wire"
)

// stoppedWithin is how soon a device that floods has to be gone.
const stoppedWithin = 10 * time.Second

// TestFlood measures another device's round trip while one floods, in few large
// messages and in many small ones; one in twenty may be slow for what else the
// machine does. The one that floods is thrown out within seconds, kept out for a
// while, and let in again; on one server, and on three.
func TestFlood(t *testing.T) {
	single := func(t *testing.T, ca *pki.CA) plane { return start(t, t.TempDir()+"/nats", ca) }
	cluster := func(t *testing.T, ca *pki.CA) plane { return newCluster(t, ca, 1) }
	for name, tt := range map[string]struct {
		on   func(*testing.T, *pki.CA) plane
		size int
	}{"large": {single, 60 << 10}, "small": {single, 1}, "cluster": {cluster, 60 << 10}} {
		t.Run(name, func(t *testing.T) {
			ca := newCA(t)
			checkFlood(t, newFleetLimited(t, ca, tt.on(t, ca), strict()), tt.size)
		})
	}
}

// strict is what a device may send here: a busy machine floods less than an idle
// one.
func strict() presence.Limits {
	l := presence.DefaultLimits()
	l.Messages, l.Bytes, l.Burst, l.Pause, l.Every = 500, 2<<20, 2*time.Second, 3*time.Second, 500*time.Millisecond
	return l
}

func checkFlood(t *testing.T, f *fleet, size int) {
	const most = 250 * time.Millisecond
	victim := f.device(t, victimID)
	pace := time.NewTicker(5 * time.Millisecond) // it does not flood itself
	defer pace.Stop()
	roundTrip := func() time.Duration {
		t.Helper()
		<-pace.C
		sent := time.Now()
		if err := victim.put(wire.BucketHeartbeat, wire.HeartbeatKey(victimID), []byte("x")); err != nil {
			t.Fatal(err)
		}
		return time.Since(sent)
	}
	flooding := f.rawAs(t, "evil")
	began := time.Now()
	stopped := make(chan time.Duration, 1)
	go func() {
		payload := strings.Repeat("A", size)
		for flooding.up() {
			flooding.pub(ownSubjects("evil")[0], "", payload)
		}
		stopped <- time.Since(began)
	}()
	var took []time.Duration
	for gone := false; !gone; {
		took = append(took, roundTrip())
		select {
		case after := <-stopped:
			gone = true
			slices.Sort(took)
			t.Logf("stopped after %s; of %d round trips of another device the worst: %s", after.Round(time.Millisecond), len(took), took[len(took)-1])
		default:
			if time.Since(began) > stoppedWithin {
				t.Fatalf("not stopped within %s", stoppedWithin)
			}
		}
	}
	if p95 := quantile(took, 0.95); p95 > most {
		t.Errorf("round trip of another device %s, at most %s", p95, most)
	}
	if d, err := f.dial("evil"); !errors.Is(err, nats.ErrAuthorization) {
		d.nc.Close()
		t.Errorf("let in again at once: %v", err)
	}
	var floods []presence.Flood
	eventually(t, "somebody is told", func() bool { // after it was disconnected
		f.mu.Lock()
		defer f.mu.Unlock()
		floods = f.floods
		return len(floods) > 0
	})
	if floods[0].Device != "evil" || floods[0].Host != "127.0.0.1" || floods[0].Reason == "" {
		t.Errorf("told of %+v", floods)
	}
	checkDeviceWorks(t, f, victim)
	eventually(t, "it is let in again", func() bool {
		d, err := f.dial("evil")
		if err != nil {
			return false
		}
		defer d.nc.Close()
		return d.put(wire.BucketHeartbeat, wire.HeartbeatKey("evil"), []byte("x")) == nil
	})
	for _, flood := range floods {
		if flood.Device != "evil" {
			t.Errorf("%s was thrown out too: %s", flood.Device, flood.Reason)
		}
	}
}
