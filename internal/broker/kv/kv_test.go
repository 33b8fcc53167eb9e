package kv_test

import (
	"context"
	"errors"
	"log/slog"
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
		slices.Sort(keys)
		return keys
	}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := keys(); len(got) != 0 {
		t.Fatalf("fresh bucket has %q", got)
	}
	ok(store.PutDesired(ctx, "pi-1", "web", []byte("1")))
	ok(store.PutDesired(ctx, "pi-1", "db", []byte("1")))
	ok(store.PutManifest(ctx, "pi-1", []byte("1")))
	ok(store.PutManifest(ctx, "pi-10", []byte("1")))
	ok(store.PutDesired(ctx, "pi-1", "web", []byte("2")))
	if got, want := keys(), []string{"pi-1", "pi-1.db", "pi-1.web", "pi-10"}; !slices.Equal(got, want) {
		t.Fatalf("keys %q, want %q", got, want)
	}
	if v, err := store.Get(ctx, wire.BucketDesired, "pi-1.web"); err != nil || string(v.Data) != "2" || v.Revision != 5 {
		t.Fatalf("%+v, %v", v, err)
	}

	ok(store.Delete(ctx, "pi-1", "web"))
	ok(store.Delete(ctx, "pi-1", "web"))
	if _, err := store.Get(ctx, wire.BucketDesired, "pi-1.web"); !errors.Is(err, kv.ErrNotFound) {
		t.Fatalf("deleted key: %v", err)
	}
	ok(store.PutDesired(ctx, "pi-1", "web", []byte("3")))
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
	if err := store.PutManifest(ctx, "pi-1", make([]byte, wire.BucketDesired.MaxValueBytes())); err != nil {
		t.Errorf("the largest value was refused: %v", err)
	}
	if err := store.PutManifest(ctx, "pi-1", make([]byte, wire.BucketDesired.MaxValueBytes()+1)); !errors.Is(err, kv.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	for _, id := range []string{"", "*", ">", "a.b", "A", "é"} {
		for what, err := range map[string]error{
			"manifest": store.PutManifest(ctx, id, nil), "desired": store.PutDesired(ctx, id, "web", nil),
			"deployment": store.PutDesired(ctx, "pi-1", id, nil), "delete": store.Delete(ctx, "pi-1", id),
			"forget": store.ForgetDevice(ctx, id),
		} {
			var bad *wire.NameError
			if !errors.As(err, &bad) {
				t.Errorf("%s with %q: %v", what, id, err)
			}
		}
	}
}
