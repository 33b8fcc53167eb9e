package kvm

import (
	"context"
	"testing"
	"time"
)

func TestProbeAnswersInTime(t *testing.T) {
	start := time.Now()
	err := Probe(t.Context())
	t.Logf("probe: %v in %s", err, time.Since(start))
	if took := time.Since(start); took > deadline+2*time.Second {
		t.Errorf("probe took %s, want about %s at most", took, deadline)
	}
}

func TestProbeEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Probe(ctx); err == nil {
		t.Error("an ended context gave a usable KVM")
	}
}
