package rotation_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/signing"
	"github.com/nationtech/fleetctl/internal/signing/rotation"
)

const patience = 10 * time.Second

// fleet is who has which key.
type fleet struct {
	mu      sync.Mutex
	devices []rotation.Device
}

func (f *fleet) Devices() []rotation.Device {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.devices)
}

func (f *fleet) set(devices ...rotation.Device) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.devices = devices
}

func begin(t *testing.T, steady time.Duration, devices ...rotation.Device) (*rotation.Rotation, *fleet, *signing.Signer) {
	t.Helper()
	signer, err := signing.Open(filepath.Join(t.TempDir(), "signing"))
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{}
	f.set(devices...)
	r := rotation.New(rotation.Config{Signer: signer, Fleet: f, Log: slog.New(slog.DiscardHandler), Steady: steady})
	if err := r.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r, f, signer
}

func TestSwitchesWhenAllConnectedHaveIt(t *testing.T) {
	r, f, signer := begin(t, 20*time.Millisecond)
	keys := signer.Pinned().IDs()
	both, old := keys, keys[:1]
	f.set(rotation.Device{ID: "a", Keys: both, Connected: true}, rotation.Device{ID: "b", Keys: old, Connected: true}, rotation.Device{ID: "c", Keys: old})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { _ = r.Run(ctx) }()
	changed := signer.Changed()
	select {
	case <-changed:
		t.Fatal("the successor signs though a connected device does not have it")
	case <-time.After(300 * time.Millisecond):
	}
	f.set(rotation.Device{ID: "a", Keys: both, Connected: true}, rotation.Device{ID: "b", Keys: both, Connected: true}, rotation.Device{ID: "c", Keys: old})
	select {
	case <-changed:
	case <-time.After(patience):
		t.Fatal("the successor does not sign")
	}
	if s := r.Status(); s.Phase != signing.Switched || len(s.Lacking) != 1 || s.Lacking[0].ID != "c" || s.Have(keys[1]) != 2 || s.Have(keys[0]) != 3 {
		t.Errorf("%+v", s)
	}
}

// TestNobodyIsThere: after a restart of the server no device may be connected
// yet; that is not everybody.
func TestNobodyIsThere(t *testing.T) {
	r, f, signer := begin(t, time.Millisecond)
	f.set(rotation.Device{ID: "a", Keys: signer.Pinned().IDs()[:1]})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_ = r.Run(ctx)
	if s := r.Status(); s.Phase != signing.Announced {
		t.Errorf("%+v", s.Rotation)
	}
}

func TestFinish(t *testing.T) {
	r, f, signer := begin(t, time.Hour)
	keys := signer.Pinned().IDs()
	f.set(rotation.Device{ID: "a", Keys: keys}, rotation.Device{ID: "b", Keys: keys[:1]}, rotation.Device{ID: "old-agent", Connected: true})
	var lacking *rotation.LackingError
	if err := r.Finish(t.Context(), false); !errors.As(err, &lacking) || !strings.Contains(err.Error(), "b, old-agent") {
		t.Fatalf("want a refusal with names, got %v", err)
	}
	if signer.Rotation().Phase != signing.Announced {
		t.Fatal("finished all the same")
	}
	if err := r.Finish(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	s := r.Status()
	if s.Phase != signing.Idle || s.Target != keys[1] || len(s.Lacking) != 2 {
		t.Errorf("%+v", s)
	}
	if err := r.Finish(t.Context(), true); !errors.Is(err, signing.ErrNotUnderWay) {
		t.Errorf("finished twice: %v", err)
	}
	if err := r.Cancel(t.Context()); !errors.Is(err, signing.ErrNotUnderWay) {
		t.Errorf("cancelled afterwards: %v", err)
	}
}

func TestFinishWithAll(t *testing.T) {
	r, f, signer := begin(t, time.Hour)
	f.set(rotation.Device{ID: "a", Keys: signer.Pinned().IDs()})
	if err := r.Finish(t.Context(), false); err != nil {
		t.Fatal(err)
	}
}
