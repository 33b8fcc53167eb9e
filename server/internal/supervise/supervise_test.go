package supervise

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"
)

var errBroken = errors.New("broken")

// until runs until it is told to end and then writes its name into *ended.
func until(name string, ended *[]string) func(context.Context) error {
	return func(ctx context.Context) error {
		<-ctx.Done()
		*ended = append(*ended, name)
		return ctx.Err()
	}
}

func TestStopsInReverseOrder(t *testing.T) {
	s := New(slog.New(slog.DiscardHandler))
	var ended []string
	for _, name := range []string{"one", "two", "three"} {
		if err := s.Start(t.Context(), name, func(context.Context) (Part, error) { return Loop(until(name, &ended)), nil }); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Stop(); err != nil {
		t.Errorf("a stop that was asked for: %v", err)
	}
	if want := []string{"three", "two", "one"}; !slices.Equal(ended, want) {
		t.Errorf("stopped in the order %v, want %v", ended, want)
	}
	if err := s.Stop(); err != nil || len(ended) != 3 {
		t.Errorf("a second stop did something: %v, %v", ended, err)
	}
}

func TestNamesThePartThatFailed(t *testing.T) {
	for name, end := range map[string]error{"with an error": errBroken, "without one": nil} {
		t.Run(name, func(t *testing.T) {
			s := New(slog.New(slog.DiscardHandler))
			var ended []string
			quit := make(chan struct{})
			for name, fn := range map[string]func(context.Context) error{
				"steady": until("steady", &ended),
				"weak":   func(context.Context) error { <-quit; return end },
			} {
				if err := s.Start(t.Context(), name, func(context.Context) (Part, error) { return Loop(fn), nil }); err != nil {
					t.Fatal(err)
				}
			}
			close(quit)
			select {
			case err := <-s.Failed():
				if !strings.Contains(err.Error(), "weak failed") || end != nil && !errors.Is(err, end) {
					t.Errorf("error %q does not say that weak failed with %v", err, end)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("nobody noticed that a part ended")
			}
			if err := s.Stop(); err == nil {
				t.Error("stopping hid that a part had failed")
			}
			if !slices.Equal(ended, []string{"steady"}) {
				t.Errorf("stopped %v, want the steady part", ended)
			}
		})
	}
}

func TestStepThatFailsIsNamed(t *testing.T) {
	s := New(slog.New(slog.DiscardHandler))
	err := s.Start(t.Context(), "NATS", func(context.Context) (Part, error) { return nil, errBroken })
	if !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "NATS") {
		t.Errorf("error %q does not name the part and the cause", err)
	}
	if err := s.Stop(); err != nil {
		t.Errorf("stopping what never started: %v", err)
	}
}

func TestStopGivesUpOnAPartThatHangs(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	p := Loop(func(context.Context) error { <-release; return nil })
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errBroken)
	if err := p.Stop(ctx); !errors.Is(err, errBroken) {
		t.Errorf("error %v, want the reason for not waiting longer", err)
	}
}
