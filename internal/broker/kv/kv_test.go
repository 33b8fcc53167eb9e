package kv_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/broker"
	"github.com/nationtech/fleetctl/internal/broker/kv"
	"github.com/nationtech/fleetctl/internal/pki"
	"github.com/nationtech/fleetctl/internal/wire"
)

const patience = 10 * time.Second

func open(t *testing.T) *kv.Store {
	t.Helper()
	ca, err := pki.Open(t.TempDir() + "/pki")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.ServerCert("nats", []string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := broker.Start(t.Context(), broker.Config{
		DataDir: t.TempDir() + "/nats", Listen: "127.0.0.1:0", TLS: cert.TLSConfig(), Devices: 10, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	nc, err := b.ConnectOperator()
	if err != nil {
		t.Fatal(err)
	}
	store, err := kv.Open(nc)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func TestDesiredState(t *testing.T) {
	store := open(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	keys := func() []string {
		t.Helper()
		keys, err := store.Keys(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return slices.Sorted(maps.Keys(keys))
	}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	put := func(deployment, value string, after uint64) (revision uint64) {
		t.Helper()
		revision, err := store.PutDesired(ctx, "pi-1", deployment, []byte(value), after)
		ok(err)
		return revision
	}
	manifest := func(device string) {
		t.Helper()
		_, err := store.PutManifest(ctx, device, []byte("1"), 0)
		ok(err)
	}
	if got := keys(); len(got) != 0 {
		t.Fatalf("fresh bucket has %q", got)
	}
	first := put("web", "1", 0)
	put("db", "1", 0)
	manifest("pi-1")
	manifest("pi-10")
	second := put("web", "2", first)
	if got, want := keys(), []string{"pi-1", "pi-1.db", "pi-1.web", "pi-10"}; !slices.Equal(got, want) {
		t.Fatalf("keys %q, want %q", got, want)
	}
	if v, err := store.Get(ctx, wire.BucketDesired, "pi-1.web"); err != nil || string(v.Data) != "2" || v.Revision != 5 {
		t.Fatalf("%+v, %v", v, err)
	}

	// Who does not know of the second write changes nothing.
	for _, after := range []uint64{0, first} {
		if _, err := store.PutDesired(ctx, "pi-1", "web", []byte("late"), after); !errors.Is(err, kv.ErrConflict) {
			t.Errorf("written after revision %d: %v", after, err)
		}
		ok(store.Delete(ctx, "pi-1", "web", after))
	}
	if v, err := store.Get(ctx, wire.BucketDesired, "pi-1.web"); err != nil || string(v.Data) != "2" {
		t.Fatalf("%+v, %v", v, err)
	}

	ok(store.Delete(ctx, "pi-1", "web", second))
	ok(store.Delete(ctx, "pi-1", "web", second))
	if _, err := store.Get(ctx, wire.BucketDesired, "pi-1.web"); !errors.Is(err, kv.ErrNotFound) {
		t.Fatalf("deleted key: %v", err)
	}
	if _, err := store.PutDesired(ctx, "pi-1", "web", []byte("late"), second); !errors.Is(err, kv.ErrConflict) {
		t.Errorf("written after a revision that is gone: %v", err)
	}
	put("web", "3", 0)
	ok(store.ForgetDevice(ctx, "pi-1"))
	if got, want := keys(), []string{"pi-10"}; !slices.Equal(got, want) {
		t.Fatalf("keys %q, want %q", got, want)
	}
	ok(store.DeleteManifest(ctx, "pi-10"))
	if got := keys(); len(got) != 0 {
		t.Fatalf("keys %q", got)
	}
}

func TestRefusals(t *testing.T) {
	store := open(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := store.PutManifest(ctx, "pi-1", make([]byte, wire.BucketDesired.MaxValueBytes()), kv.Any); err != nil {
		t.Errorf("the largest value was refused: %v", err)
	}
	if _, err := store.PutManifest(ctx, "pi-1", make([]byte, wire.BucketDesired.MaxValueBytes()+1), kv.Any); !errors.Is(err, kv.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	for _, id := range []string{"", "*", ">", "a.b", "A", "é"} {
		_, manifest := store.PutManifest(ctx, id, nil, kv.Any)
		_, desired := store.PutDesired(ctx, id, "web", nil, kv.Any)
		_, deployment := store.PutDesired(ctx, "pi-1", id, nil, kv.Any)
		for what, err := range map[string]error{
			"manifest": manifest, "desired": desired, "deployment": deployment,
			"delete": store.Delete(ctx, "pi-1", id, kv.Any), "forget": store.ForgetDevice(ctx, id),
		} {
			var bad *wire.NameError
			if !errors.As(err, &bad) {
				t.Errorf("%s with %q: %v", what, id, err)
			}
		}
	}
}
