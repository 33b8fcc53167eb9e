package throttle

import (
	"context"
	"errors"
	"testing"
	"time"
)

var errTooMany = errors.New("too many requests")

func TestRateFollowsTheServer(t *testing.T) {
	now := time.Unix(1000, 0)
	l := New(func(err error) bool { return errors.Is(err, errTooMany) }, func() time.Time { return now })
	call := func(took time.Duration, err error) {
		t.Helper()
		got := l.Do(t.Context(), func(context.Context) error { now = now.Add(took); return err })
		if !errors.Is(got, err) {
			t.Fatalf("Do gave %v, want %v", got, err)
		}
	}
	call(time.Millisecond, nil)
	if l.Rate() != initial+step {
		t.Fatalf("a quick answer: %v", l.Rate())
	}
	call(time.Millisecond, errTooMany)
	if l.Rate() != (initial+step)/2 {
		t.Fatalf("too many requests: %v", l.Rate())
	}
	call(time.Millisecond, errTooMany)
	if l.Rate() != (initial+step)/2 {
		t.Fatalf("the same overload counts once: %v", l.Rate())
	}
	now = now.Add(cooldown)
	call(time.Millisecond, errors.New("conflict"))
	if l.Rate() != (initial+step)/2+step {
		t.Fatalf("another error is no overload: %v", l.Rate())
	}
	for range 40 {
		now = now.Add(cooldown)
		l.observe(time.Minute, nil)
	}
	if l.Rate() != steady {
		t.Fatalf("a server that is slow: %v", l.Rate())
	}
	for range 40 {
		now = now.Add(cooldown)
		l.observe(0, errTooMany)
	}
	if l.Rate() != least {
		t.Fatalf("the floor: %v", l.Rate())
	}
	now = now.Add(cooldown)
	if l.observe(time.Minute, nil); l.Rate() != least {
		t.Fatalf("a slow answer raised the rate: %v", l.Rate())
	}
	for range most {
		l.observe(0, nil)
	}
	if l.Rate() != most {
		t.Fatalf("the ceiling: %v", l.Rate())
	}
}

func TestDoStopsWaitingWithItsContext(t *testing.T) {
	l := New(func(error) bool { return false }, time.Now)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Do(ctx, func(context.Context) error { t.Error("called"); return nil }); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestEaseFollowsTheServer(t *testing.T) {
	l := New(func(error) bool { return false }, time.Now)
	answers := func(took time.Duration) float64 {
		for range 10 * memory {
			l.observe(took, nil)
		}
		return l.Ease()
	}
	if got := l.Ease(); got != 1 {
		t.Errorf("before the first answer: %v", got)
	}
	if got := answers(quick / 2); got != 1 {
		t.Errorf("quick answers: %v", got)
	}
	if got := answers(4 * quick); got < 0.24 || got > 0.26 {
		t.Errorf("four times as slow: %v", got)
	}
	if l.observe(0, nil); l.Ease() > 0.3 {
		t.Errorf("one quick answer: %v", l.Ease())
	}
	if got := answers(0); got != 1 {
		t.Errorf("quick again: %v", got)
	}
}
