package operator

import (
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/broker/kv"
	"github.com/nationtech/fleetctl/internal/signing"
	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/desired"
	"github.com/nationtech/fleetctl/operator/memstore"
)

func openSigner(t *testing.T) *signing.Signer {
	t.Helper()
	signer, err := signing.Open(t.TempDir() + "/signing")
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func newTestWriter(store *memstore.Store, signer Signer) *writer {
	return newWriter(store, signer, time.Now, slog.New(slog.DiscardHandler))
}

func stateOf(uid, content string) *desired.State {
	data := []byte(`{"uid":"` + uid + `","x":"` + content + `"}`)
	return &desired.State{UID: uid, Bytes: data, Hash: wire.Hash(data)}
}

func wanting(states map[string]*desired.State) want { return want{states: states} }

func mustSync(t *testing.T, wr *writer, w want, always bool) []string {
	t.Helper()
	released, err := wr.sync(t.Context(), "pi-1", w, always)
	if err != nil {
		t.Fatal(err)
	}
	return released
}

func TestSyncOrdersItsWrites(t *testing.T) {
	store := memstore.New()
	wr := newTestWriter(store, openSigner(t))
	a, b, b2 := stateOf("ua", "1"), stateOf("ub", "1"), stateOf("ub", "2")
	for i, step := range []struct {
		states   map[string]*desired.State
		writes   []string
		released []string
	}{
		{nil, []string{"put pi-1"}, nil},
		{map[string]*desired.State{"a": a, "b": b}, []string{"put pi-1.a", "put pi-1.b", "put pi-1"}, nil},
		{map[string]*desired.State{"a": a, "b": b}, nil, nil},
		{map[string]*desired.State{"a": a, "b": b2}, []string{"put pi-1.b", "put pi-1"}, nil},
		{map[string]*desired.State{"b": b2}, []string{"put pi-1", "del pi-1.a"}, []string{"ua"}},
		{map[string]*desired.State{"b": a}, []string{"put pi-1.b", "put pi-1"}, []string{"ub"}},
		{nil, []string{"put pi-1", "del pi-1.b"}, []string{"ua"}},
	} {
		before := len(store.Writes())
		released := mustSync(t, wr, wanting(step.states), true)
		if writes := store.Writes()[before:]; !slices.Equal(writes, step.writes) || !slices.Equal(released, step.released) {
			t.Errorf("step %d: wrote %v, released %v", i, writes, released)
		}
	}
	for _, uid := range []string{"ua", "ub"} {
		if wr.held(uid) {
			t.Errorf("%s is still held", uid)
		}
	}
}

func TestAnUnknownDeviceGetsNoManifest(t *testing.T) {
	store := memstore.New()
	mustSync(t, newTestWriter(store, openSigner(t)), want{}, false)
	if keys := store.Snapshot(); len(keys) != 0 {
		t.Errorf("wrote %v", keys)
	}
}

func TestSyncGoesOnWhereItFailed(t *testing.T) {
	store := memstore.New()
	wr := newTestWriter(store, openSigner(t))
	full := errors.New("full")
	a := map[string]*desired.State{"a": stateOf("ua", "1")}
	store.Fail(full)
	if _, err := wr.sync(t.Context(), "pi-1", wanting(a), true); !errors.Is(err, full) {
		t.Fatal(err)
	}
	store.Fail(nil)
	mustSync(t, wr, wanting(a), true)
	store.Fail(full)
	if _, err := wr.sync(t.Context(), "pi-1", want{}, true); !errors.Is(err, full) {
		t.Fatal(err)
	}
	if !wr.held("ua") {
		t.Error("a key that is still there is thought removed")
	}
	store.Fail(nil)
	if released := mustSync(t, wr, want{}, true); !slices.Equal(released, []string{"ua"}) {
		t.Errorf("released %v", released)
	}
}

// TestLoad: a new operator knows what the last one wrote, and trusts no
// manifest that devices would not.
func TestLoad(t *testing.T) {
	store, signer := memstore.New(), openSigner(t)
	a := map[string]*desired.State{"a": stateOf("ua", "1")}
	mustSync(t, newTestWriter(store, signer), wanting(a), true)

	wr := newTestWriter(store, signer)
	if err := wr.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := len(store.Writes())
	mustSync(t, wr, wanting(a), true)
	if writes := store.Writes()[before:]; len(writes) != 0 {
		t.Errorf("wrote %v again", writes)
	}
	if !wr.held("ua") || wr.revision("pi-1") == 0 {
		t.Error("what is stored was not loaded")
	}

	later := uint64(time.Now().Add(time.Hour).UnixMilli())
	forged, err := openSigner(t).Seal(wire.KindManifest, desired.Manifest("pi-1", later, nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.PutManifest(t.Context(), "pi-1", forged, kv.Any); err != nil {
		t.Fatal(err)
	}
	wr = newTestWriter(store, signer)
	if err := wr.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustSync(t, wr, wanting(a), true)
	var m wire.Manifest
	if err := wire.Open(wire.KindManifest, store.Snapshot()["pi-1"], signer.Pinned().Keys, &m); err != nil {
		t.Fatal(err)
	}
	if m.Revision <= later || len(m.Deployments) != 1 {
		t.Errorf("manifest %+v", m)
	}
}

// TestAnotherEpoch: when the signing key changes, manifests are written anew,
// with what they say unchanged; also by an operator that starts later.
func TestAnotherEpoch(t *testing.T) {
	store, signer := memstore.New(), openSigner(t)
	a := map[string]*desired.State{"a": stateOf("ua", "1")}
	wr := newTestWriter(store, signer)
	mustSync(t, wr, wanting(a), true)
	steps := []func() error{
		func() error { return signer.Begin(t.Context(), time.Now()) },
		func() error { return signer.Switch(t.Context()) },
		func() error { return signer.Finish(t.Context()) },
	}
	for i, step := range steps {
		if err := step(); err != nil {
			t.Fatal(err)
		}
		if i == len(steps)-1 {
			wr = newTestWriter(store, signer)
			if err := wr.load(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range [][]string{{"put pi-1"}, nil} {
			before := len(store.Writes())
			mustSync(t, wr, wanting(a), true)
			if writes := store.Writes()[before:]; !slices.Equal(writes, want) {
				t.Errorf("after step %d: wrote %v, not %v", i, writes, want)
			}
		}
		if stored := store.Snapshot()["pi-1"]; signer.EpochOf(stored) != signer.Epoch() {
			t.Errorf("after step %d the manifest is of epoch %s", i, signer.EpochOf(stored))
		}
	}
}

func TestAuditFindsWhatWentAndWhatCame(t *testing.T) {
	store := memstore.New()
	wr := newTestWriter(store, openSigner(t))
	a := map[string]*desired.State{"a": stateOf("ua", "1")}
	mustSync(t, wr, wanting(a), true)
	if differ, err := wr.audit(t.Context()); err != nil || len(differ) != 0 {
		t.Fatalf("nothing changed, and yet %v, %v", differ, err)
	}
	if _, err := store.PutDesired(t.Context(), "pi-2", "stray", []byte("{}"), 0); err != nil {
		t.Fatal(err)
	}
	if err := store.Delete(t.Context(), "pi-1", "a", kv.Any); err != nil {
		t.Fatal(err)
	}
	differ, err := wr.audit(t.Context())
	slices.Sort(differ)
	if err != nil || !slices.Equal(differ, []string{"pi-1", "pi-2"}) {
		t.Fatalf("differ %v, %v", differ, err)
	}
	mustSync(t, wr, wanting(a), true)
	if _, err := wr.sync(t.Context(), "pi-2", want{}, false); err != nil {
		t.Fatal(err)
	}
	got := store.Snapshot()
	if len(got) != 2 || string(got["pi-1.a"]) != string(a["a"].Bytes) || got["pi-1"] == nil {
		t.Errorf("the store has %v", got)
	}
}

func TestARevisionThatCannotBeOursIsIgnored(t *testing.T) {
	wr := newTestWriter(memstore.New(), openSigner(t))
	if wr.accepted("pi-1", 1<<63) {
		t.Error("taken")
	}
	mustSync(t, wr, want{}, true)
	if wr.accepted("pi-1", wr.revision("pi-1")) {
		t.Error("the device has what is stored, and yet a newer manifest is wanted")
	}
}

// TestAWriterThatWasOvertaken: a second writer, which took over, changes what the
// first one wrote. The first cannot write over that, and its successor finds what
// the first wrote of what it had left alone.
func TestAWriterThatWasOvertaken(t *testing.T) {
	store, signer := memstore.New(), openSigner(t)
	old := newTestWriter(store, signer)
	one, two, three := stateOf("ua", "1"), stateOf("ua", "2"), stateOf("ua", "3")
	mustSync(t, old, wanting(map[string]*desired.State{"a": one}), true)
	heir := newTestWriter(store, signer)
	if err := heir.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustSync(t, heir, wanting(map[string]*desired.State{"a": two}), true)
	before := store.Snapshot()
	if _, err := old.sync(t.Context(), "pi-1", wanting(map[string]*desired.State{"a": three}), true); !errors.Is(err, kv.ErrConflict) {
		t.Fatalf("overtaken, and yet: %v", err)
	}
	if _, err := old.sync(t.Context(), "pi-2", want{}, true); err != nil {
		t.Fatal(err) // nobody else wrote that
	}
	if after := store.Snapshot(); string(after["pi-1"]) != string(before["pi-1"]) || string(after["pi-1.a"]) != string(two.Bytes) {
		t.Errorf("the store has %q", after)
	}

	differ, err := heir.audit(t.Context())
	if err != nil || !slices.Equal(differ, []string{"pi-2"}) {
		t.Fatalf("differ %v, %v", differ, err)
	}
	// Once it knows what is there, it writes after it, and never backwards.
	was := heir.revision("pi-1")
	syncAgain(t, old, wanting(map[string]*desired.State{"a": three}))
	if old.revision("pi-1") <= was {
		t.Errorf("revision %d after %d", old.revision("pi-1"), was)
	}
	if differ, err := heir.audit(t.Context()); err != nil || !slices.Equal(differ, []string{"pi-1", "pi-2"}) && !slices.Equal(differ, []string{"pi-2", "pi-1"}) {
		t.Fatalf("differ %v, %v", differ, err)
	}
	syncAgain(t, heir, wanting(map[string]*desired.State{"a": two}))
	if got := store.Snapshot(); string(got["pi-1.a"]) != string(two.Bytes) || heir.revision("pi-1") <= old.revision("pi-1") {
		t.Errorf("the store has %q", got)
	}
}

// syncAgain is sync as the queue calls it: once more for each key in doubt.
func syncAgain(t *testing.T, wr *writer, w want) {
	t.Helper()
	var err error
	for range 3 {
		if _, err = wr.sync(t.Context(), "pi-1", w, true); err == nil {
			return
		}
	}
	t.Fatal(err)
}

// TestAWipeIsWrittenAnew: keys that are not there any more conflict once.
func TestAWipeIsWrittenAnew(t *testing.T) {
	store := memstore.New()
	wr := newTestWriter(store, openSigner(t))
	a := wanting(map[string]*desired.State{"a": stateOf("ua", "1")})
	b := wanting(map[string]*desired.State{"a": stateOf("ua", "2")})
	mustSync(t, wr, a, true)
	store.Wipe()
	if _, err := wr.sync(t.Context(), "pi-1", b, true); !errors.Is(err, kv.ErrConflict) {
		t.Fatalf("wiped, and yet: %v", err)
	}
	syncAgain(t, wr, b)
	if got := store.Snapshot(); string(got["pi-1.a"]) != string(b.states["a"].Bytes) || got["pi-1"] == nil {
		t.Errorf("the store has %q", got)
	}
}
