package broker

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"
)

// enters lets one more client in, in the background.
func enters(ctx context.Context, a *admission) <-chan error {
	entered := make(chan error, 1)
	go func() { entered <- a.enter(ctx) }()
	return entered
}

func waits(t *testing.T, entered <-chan error) {
	t.Helper()
	select {
	case err := <-entered:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
}

func isIn(t *testing.T, entered <-chan error) {
	t.Helper()
	select {
	case err := <-entered:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it is not let in")
	}
}

func fill(t *testing.T, a *admission) {
	t.Helper()
	for range cap(a.places) {
		isIn(t, enters(t.Context(), a))
	}
}

func TestAdmissionKeepsPace(t *testing.T) {
	a := newAdmission()
	a.stay = time.Hour
	fill(t, a)
	next := enters(t.Context(), a)
	waits(t, next)
	a.asked() // the first of them
	isIn(t, next)
	a.decided()

	for range a.atOnce {
		a.asked()
	}
	next = enters(t.Context(), a)
	waits(t, next) // there is a place, and too much to decide
	a.decided()
	isIn(t, next)
}

// Clients that shake hands and say nothing do not keep others out, and neither
// does one that goes while it waits.
func TestAdmissionOfTheSilent(t *testing.T) {
	a := newAdmission()
	began := time.Now()
	const rounds = 5
	for range rounds * cap(a.places) {
		isIn(t, enters(t.Context(), a))
	}
	if took := time.Since(began); took < (rounds-1)*stay {
		t.Errorf("%d clients came in within %s", rounds*cap(a.places), took)
	}

	a = newAdmission()
	a.stay = time.Hour
	for range a.atOnce {
		a.asked()
	}
	ctx, cancel := context.WithCancel(t.Context())
	var gone []<-chan error
	for range 2 * cap(a.places) {
		gone = append(gone, enters(ctx, a))
	}
	waits(t, gone[0])
	cancel()
	for _, g := range gone {
		if err := <-g; !errors.Is(err, context.Canceled) {
			t.Errorf("it went, and yet: %v", err)
		}
	}
	a.decided()
	for range cap(a.places) {
		isIn(t, enters(t.Context(), a))
	}
	if cap(a.places) != arriving*runtime.GOMAXPROCS(0) {
		t.Errorf("%d places", cap(a.places))
	}
}
