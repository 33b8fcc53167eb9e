//go:build hosts

package agent_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/broker/accounts"
	"github.com/nationtech/fleetctl/internal/broker/presence"
	"github.com/nationtech/fleetctl/internal/wire"
)

// A device that loses its power or its cable says nothing: NATS notices it by
// its pings.
func TestPowerLossIsNoticed(t *testing.T) {
	if *idle == 0 {
		t.Skip("by hand, minutes: -soak.idle=1s")
	}
	d := newDevice(t, "trixie")
	tracker := must(presence.Start(t.Context(), must(d.fleet.broker.ConnectPresence())(t), slog.New(slog.DiscardHandler), presence.Options{}))(t)
	here := func() bool { _, is := tracker.Connection(deviceID); return is }
	deadline := time.Now().Add(patience)
	for ; !here(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the device is not connected")
		}
	}
	d.NetworkDown(t)
	cut := time.Now()
	// The interval in which it was heard of last, the one after which it is
	// asked, and those in which it does not answer; and a look at the list of
	// connections, which is behind at times.
	most := (2+accounts.MaxPingsOut)*wire.PingInterval + 10*time.Second
	for here() {
		if time.Since(cut) > most {
			t.Fatalf("taken for connected %s after its cable was cut", most)
		}
		time.Sleep(time.Second)
	}
	t.Logf("gone %s after its cable was cut, at most %s", time.Since(cut).Round(time.Second), most)
}
