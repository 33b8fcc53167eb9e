package signing_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/signing"
	"github.com/nationtech/fleetctl/internal/wire"
)

func open(t *testing.T, dir string) *signing.Signer {
	t.Helper()
	s, err := signing.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// device is what a device pins, and what it makes of manifests.
type device struct {
	t      *testing.T
	pinned wire.PinnedKeys
}

// follow takes the key sets beside a manifest and says whether it opens.
func (d *device) follow(sealed []byte) bool {
	d.t.Helper()
	for _, set := range wire.AttachedKeys(sealed) {
		if next, err := d.pinned.Follow(set); err == nil {
			d.pinned = next
		}
	}
	return d.opens(sealed)
}

func (d *device) opens(sealed []byte) bool {
	return wire.Open(wire.KindManifest, sealed, d.pinned.Keys, &wire.Manifest{}) == nil
}

func manifest(t *testing.T, s *signing.Signer) []byte {
	t.Helper()
	sealed, err := s.Seal(wire.KindManifest, wire.Manifest{Device: "pi-1", Revision: 7})
	ok(t, err)
	if got := s.EpochOf(sealed); got != s.Epoch() {
		t.Errorf("sealed in epoch %s, which is %s", got, s.Epoch())
	}
	return sealed
}

// TestRotation follows a rotation to its end: with a device that hears of every
// step, one that sleeps through all, and one that is enrolled in between. The
// server is started anew after each step.
func TestRotation(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	s := open(t, dir)
	first := s.Rotation().Current
	awake, asleep := &device{t, s.Pinned()}, &device{t, s.Pinned()}
	if len(awake.pinned.Keys) != 1 || !awake.follow(manifest(t, s)) {
		t.Fatalf("before the rotation: %v", awake.pinned.IDs())
	}

	ok(t, s.Begin(t.Context(), time.Now()))
	s = open(t, dir)
	r := s.Rotation()
	if r.Phase != signing.Announced || r.Current != first || r.Signs != first || r.Successor == "" || r.Began.IsZero() {
		t.Fatalf("%+v", r)
	}
	if err := s.Begin(t.Context(), time.Now()); !errors.Is(err, signing.ErrUnderWay) {
		t.Errorf("two successors: %v", err)
	}
	enrolled := &device{t, s.Pinned()}
	if !awake.follow(manifest(t, s)) || len(awake.pinned.Keys) != 2 || len(enrolled.pinned.Keys) != 2 || awake.pinned.Revision != enrolled.pinned.Revision {
		t.Errorf("announced: %+v, enrolled %+v", awake.pinned, enrolled.pinned)
	}
	if !asleep.opens(manifest(t, s)) {
		t.Error("the current key does not sign any more")
	}

	ok(t, s.Switch(t.Context()))
	s = open(t, dir)
	if r = s.Rotation(); r.Phase != signing.Switched || r.Signs != r.Successor {
		t.Fatalf("%+v", r)
	}
	if !awake.opens(manifest(t, s)) || !enrolled.opens(manifest(t, s)) || asleep.opens(manifest(t, s)) {
		t.Error("it is not the successor that signs")
	}
	late := *asleep
	if !late.follow(manifest(t, s)) || len(late.pinned.Keys) != 2 {
		t.Errorf("who comes back while both keys are valid does not catch up: %v", late.pinned.IDs())
	}

	ok(t, s.Finish(t.Context()))
	s = open(t, dir)
	if after := s.Rotation(); after.Phase != signing.Idle || after.Current != r.Successor || after.Successor != "" {
		t.Fatalf("%+v", after)
	}
	for name, d := range map[string]*device{"awake": awake, "asleep": asleep, "enrolled": enrolled} {
		if !d.follow(manifest(t, s)) || len(d.pinned.Keys) != 1 || d.pinned.IDs()[0] != r.Successor {
			t.Errorf("%s ends with %v", name, d.pinned.IDs())
		}
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 2 {
		t.Errorf("left in the directory: %v, %v", files, err)
	}
}

// TestSleepersCatchUp: what goes beside manifests leads from the keys of the
// last rotations to today's, and does not grow without end.
func TestSleepersCatchUp(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "keys"))
	for range 3 {
		asleep := &device{t, s.Pinned()}
		for range 3 {
			ok(t, s.Begin(t.Context(), time.Now()))
			ok(t, s.Cancel(t.Context()))
			ok(t, s.Begin(t.Context(), time.Now()))
			ok(t, s.Finish(t.Context()))
		}
		sealed := manifest(t, s)
		if sets := wire.AttachedKeys(sealed); len(sets) > 4 {
			t.Errorf("%d key sets beside a manifest", len(sets))
		}
		if !asleep.follow(sealed) {
			t.Error("who slept through three rotations does not catch up")
		}
	}
}

func TestCancel(t *testing.T) {
	for name, switched := range map[string]bool{"announced": false, "switched": true} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "keys")
			s := open(t, dir)
			before := s.Rotation().Current
			d, asleep := &device{t, s.Pinned()}, &device{t, s.Pinned()}
			ok(t, s.Begin(t.Context(), time.Now()))
			d.follow(manifest(t, s))
			announced := wire.AttachedKeys(manifest(t, s))[0]
			if switched {
				ok(t, s.Switch(t.Context()))
			}
			ok(t, s.Cancel(t.Context()))
			s = open(t, dir)
			for _, d := range []*device{d, asleep} {
				if !d.follow(manifest(t, s)) || len(d.pinned.Keys) != 1 || d.pinned.IDs()[0] != before {
					t.Errorf("a device ends with %v", d.pinned.IDs())
				}
				if _, err := d.pinned.Follow(announced); !errors.Is(err, wire.ErrOldKeySet) {
					t.Errorf("the announcement that was called off, told again: %v", err)
				}
			}
			for _, step := range []error{s.Cancel(t.Context()), s.Finish(t.Context()), s.Switch(t.Context())} {
				if !errors.Is(step, signing.ErrNotUnderWay) {
					t.Errorf("a step without a rotation: %v", step)
				}
			}
		})
	}
}

// TestCutOff: a rotation that was cut off between any two writes is taken up
// where it was.
func TestCutOff(t *testing.T) {
	for name, step := range map[string]func(*signing.Signer) error{
		"begin":  func(s *signing.Signer) error { return s.Begin(t.Context(), time.Now()) },
		"finish": func(s *signing.Signer) error { return s.Finish(t.Context()) },
		"cancel": func(s *signing.Signer) error { return s.Cancel(t.Context()) },
	} {
		for writes := range 3 {
			store := &memory{files: map[string][]byte{}, left: 100}
			s, err := signing.New(t.Context(), store)
			ok(t, err)
			d := &device{t, s.Pinned()}
			if name != "begin" {
				ok(t, s.Begin(t.Context(), time.Now()))
				d.follow(manifest(t, s))
			}
			store.left = writes
			cut := step(s)
			store.left = 100
			again, err := signing.New(t.Context(), store)
			if err != nil {
				t.Errorf("%s, cut off after %d writes (%v): %v", name, writes, cut, err)
				continue
			}
			if !d.follow(manifest(t, again)) {
				t.Errorf("%s, cut off after %d writes: the device is lost", name, writes)
			}
			idle := again.Rotation().Phase == signing.Idle
			if idle && again.Rotation().Revision > 0 && store.files[signing.SuccessorFile] != nil {
				t.Errorf("%s, cut off after %d writes: a key that nobody needs stays", name, writes)
			}
		}
	}
}

// TestAttacks: what a device must not follow.
func TestAttacks(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "keys"))
	old := s.Pinned()
	ok(t, s.Begin(t.Context(), time.Now()))
	first := wire.AttachedKeys(manifest(t, s))[0]
	ok(t, s.Finish(t.Context()))
	sets := wire.AttachedKeys(manifest(t, s))
	d := &device{t, old}
	d.follow(manifest(t, s))

	_, stranger, err := ed25519.GenerateKey(nil)
	ok(t, err)
	theirs := stranger.Public().(ed25519.PublicKey)
	set := func(revision uint64, keys ...ed25519.PublicKey) wire.KeySet {
		return wire.KeySet{SchemaVersion: 1, Revision: revision, Keys: keys}
	}
	by := func(kind wire.Kind, key ed25519.PrivateKey, v any) []byte {
		sealed, err := wire.Seal(kind, v, key)
		ok(t, err)
		return sealed
	}
	edit := func(sealed []byte, change func(*wire.Envelope)) []byte {
		var e wire.Envelope
		ok(t, json.Unmarshal(sealed, &e))
		change(&e)
		data, err := json.Marshal(e)
		ok(t, err)
		return data
	}
	ours := func(v wire.KeySet) []byte {
		sealed, err := s.Seal(wire.KindKeys, v)
		ok(t, err)
		return sealed
	}
	current := d.pinned.Keys[0]
	for name, tc := range map[string]struct {
		sealed []byte
		want   error // nil: any
	}{
		"by a key that nobody knows":    {by(wire.KindKeys, stranger, set(99, theirs)), wire.ErrUnknownKey},
		"by a key that was dropped":     {first, wire.ErrUnknownKey},
		"told again":                    {sets[len(sets)-1], nil},
		"claims another's key":          {edit(by(wire.KindKeys, stranger, set(99, theirs)), func(e *wire.Envelope) { e.KeyID = wire.KeyID(current) }), wire.ErrBadSignature},
		"edited":                        {edit(ours(set(99, current)), func(e *wire.Envelope) { e.Payload[20]++ }), wire.ErrBadSignature},
		"signed as something else":      {manifest(t, s), wire.ErrBadSignature},
		"of the revision that is known": {ours(set(d.pinned.Revision, current, theirs)), wire.ErrOldKeySet},
		"of a revision before":          {ours(set(1, current, theirs)), wire.ErrOldKeySet},
		"without a key":                 {ours(set(99)), nil},
		"with more keys than there are": {ours(set(99, current, theirs, theirs)), nil},
		"with a key of another length":  {ours(set(99, current[:31])), nil},
		"no envelope":                   {[]byte(`{"revision":99}`), wire.ErrUnsigned},
		"unsigned":                      {edit(ours(set(99, current)), func(e *wire.Envelope) { e.Signature = nil }), wire.ErrUnsigned},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := d.pinned.Follow(tc.sealed)
			if err == nil || tc.want != nil && !errors.Is(err, tc.want) {
				t.Errorf("error is %v, not %v", err, tc.want)
			}
			if len(got.Keys) != 1 || !got.Keys[0].Equal(current) || got.Revision != d.pinned.Revision {
				t.Errorf("now trusts %v", got.IDs())
			}
		})
	}
}

// TestEarlierVersions kept a standing successor, which devices pinned: it is
// neither used nor trusted any more after a rotation.
func TestEarlierVersions(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	s := open(t, dir)
	standing, err := signing.Generate()
	ok(t, err)
	ok(t, os.WriteFile(filepath.Join(dir, signing.SuccessorFile), standing, 0o600))
	_, other, err := ed25519.GenerateKey(nil)
	ok(t, err)
	d := &device{t, s.Pinned()}
	d.pinned.Keys = append(d.pinned.Keys, other.Public().(ed25519.PublicKey))

	s = open(t, dir)
	if r := s.Rotation(); r.Phase != signing.Idle || len(s.Pinned().Keys) != 1 {
		t.Fatalf("%+v", r)
	}
	ok(t, s.Begin(t.Context(), time.Now()))
	if !d.follow(manifest(t, s)) || len(d.pinned.Keys) != 2 || d.pinned.Keys[1].Equal(other.Public()) {
		t.Errorf("the device trusts %v", d.pinned.IDs())
	}
}

// TestMounted: parts that only read the keys follow them, and never backwards.
func TestMounted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	s := open(t, dir)
	reader, err := signing.Load(dir)
	ok(t, err)
	if err := reader.Begin(t.Context(), time.Now()); !errors.Is(err, signing.ErrReadOnly) {
		t.Errorf("a reader began a rotation: %v", err)
	}
	changed := reader.Changed()
	go func() { _ = reader.Follow(t.Context(), time.Millisecond, slog.New(slog.DiscardHandler)) }()
	ok(t, s.Begin(t.Context(), time.Now()))
	select {
	case <-changed:
	case <-time.After(10 * time.Second):
		t.Fatal("not noticed")
	}
	if reader.Epoch() != s.Epoch() {
		t.Errorf("%s, not %s", reader.Epoch(), s.Epoch())
	}
	if _, err := signing.Load(t.TempDir()); err == nil || hint.Of(err) == "" {
		t.Errorf("an empty directory: %v", err)
	}
}

// memory is a Store that can be made to fail after some writes.
type memory struct {
	files map[string][]byte
	left  int
}

var errCut = errors.New("cut off")

func (m *memory) Read(context.Context) (map[string][]byte, error) { return maps.Clone(m.files), nil }

func (m *memory) Write(_ context.Context, name string, data []byte) error {
	if m.left--; m.left < 0 {
		return errCut
	}
	m.files[name] = data
	return nil
}

func (m *memory) Remove(_ context.Context, name string) error {
	if m.left--; m.left < 0 {
		return errCut
	}
	delete(m.files, name)
	return nil
}

func TestDamagedKeyIsNotReplaced(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	if _, err := signing.Open(dir); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "signing.key")
	if err := os.WriteFile(path, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := signing.Open(dir); err == nil || hint.Of(err) == "" {
		t.Fatalf("want an error with a hint, got %v", err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "broken" {
		t.Errorf("the key was replaced: %q, %v", data, err)
	}
}
