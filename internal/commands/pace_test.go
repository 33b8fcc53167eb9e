package commands

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nationtech/fleetctl/internal/broker/presence"
	"github.com/nationtech/fleetctl/internal/wire"
)

// The streams of one device share its pace, and another device has its own.
func TestPace(t *testing.T) {
	synctest.Test(t, checkPace) // no time goes by unless all wait
}

func checkPace(t *testing.T) {
	var p pacer
	one, leaveOne := p.join("pi-1")
	two, leaveTwo := p.join("pi-1")
	other, leaveOther := p.join("pi-2")
	defer leaveOther()
	soon, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := one.wait(soon, 1+burstBytes/wire.MaxPartBytes, burstBytes); err != nil {
		t.Fatalf("the first half second: %v", err)
	}
	if err := two.wait(soon, 16, 16*wire.MaxPartBytes); err == nil {
		t.Error("a second stream doubles the pace")
	}
	if err := other.wait(soon, 16, 16*wire.MaxPartBytes); err != nil {
		t.Errorf("another device waits too: %v", err)
	}
	leaveOne()
	leaveOne()
	if len(p.devices) != 2 {
		t.Error("the pace of a stream that runs is forgotten")
	}
	leaveTwo()
	if len(p.devices) != 1 {
		t.Error("the pace of a device without streams is kept")
	}
}

// What people ask of a device is no flood.
func TestPaceIsNoFlood(t *testing.T) {
	limits := presence.DefaultLimits()
	const wireBytes = streamBytes * 4 / 3 // base64
	if wireBytes*2 > limits.Bytes || streamParts*2 > limits.Messages {
		t.Errorf("streams may take %d bytes and %d messages a second, of %.0f and %.0f", wireBytes, streamParts, limits.Bytes, limits.Messages)
	}
}
