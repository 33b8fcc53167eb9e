package serverapi_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/audit"
	"github.com/nationtech/fleetctl/internal/identity/role"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
	"github.com/nationtech/fleetctl/internal/wire"
)

// TestProbe: who looks at a device learns whether it answers. However many look,
// the device hears of one; none of it is on record.
func TestProbe(t *testing.T) {
	c := start(t)
	ctx := timeout(t)
	e := must(c.Enrol(ctx, "pi-1", api.EnrolmentRequest{MachineID: machineA}))(t)
	vera := c.as(t, "vera", role.Viewer)
	if _, err := vera.Probe(ctx, "pi-1"); apiclient.Code(err) != api.CodeDeviceOffline {
		t.Errorf("not connected: %v", err)
	}
	if _, err := vera.Probe(ctx, "pi-9"); apiclient.Code(err) != api.CodeNotFound {
		t.Errorf("unknown: %v", err)
	}

	var asked atomic.Int32
	var silent atomic.Bool
	c.agent(t, e, func(wire.Command) []wire.Reply {
		asked.Add(1)
		if silent.Load() {
			return nil
		}
		return []wire.Reply{{Done: true}}
	})
	before := len(must(c.log.Query(audit.Filter{}))(t).Records)
	var group sync.WaitGroup
	began := time.Now()
	for range 20 {
		group.Go(func() {
			if p, err := vera.Probe(ctx, "pi-1"); err != nil || p.DeviceID != "pi-1" || p.RoundTripMillis <= 0 {
				t.Errorf("%+v, %v", p, err)
			}
		})
	}
	group.Wait()
	// One for all, and perhaps another when they took long.
	if n, most := asked.Load(), 1+int32(time.Since(began)/(500*time.Millisecond)); n < 1 || n > most {
		t.Errorf("20 who look asked the device %d times, at most %d", n, most)
	}

	silent.Store(true)
	var err error
	for deadline := time.Now().Add(patience); err == nil && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		began = time.Now()
		_, err = vera.Probe(ctx, "pi-1") // an answer of a moment ago does for a while
	}
	// Long before a ping of a person's gives up.
	if apiclient.Code(err) != api.CodeDeviceNoAnswer || time.Since(began) > 8*time.Second {
		t.Errorf("a silent device: %v after %s", err, time.Since(began))
	}
	if after := len(must(c.log.Query(audit.Filter{}))(t).Records); after != before {
		t.Errorf("%d records of looking", after-before)
	}
}
