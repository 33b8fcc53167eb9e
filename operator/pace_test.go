package operator

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// TestPace: a quiet object's changes are written at once, those of one that
// changes all the time once in an interval, and no object waits for another.
func TestPace(t *testing.T) {
	p := newPace(time.Second)
	busy, other := types.NamespacedName{Name: "busy"}, types.NamespacedName{Name: "other"}
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	written := 0
	for at := now; at.Before(now.Add(10 * time.Second)); at = at.Add(50 * time.Millisecond) {
		wait := p.wait(busy, at)
		if wait == 0 {
			written++
		}
		if wait < 0 || wait > time.Second {
			t.Fatalf("waits %s", wait)
		}
		if written == 0 {
			t.Fatal("the first change waits")
		}
	}
	if written < 10 || written > 10+paceBurst {
		t.Errorf("%d writes in 10 s", written)
	}
	if wait := p.wait(other, now); wait != 0 {
		t.Errorf("another waits %s", wait)
	}
	p.forget(busy)
	if len(p.of) != 1 {
		t.Errorf("%d are remembered", len(p.of))
	}
}
