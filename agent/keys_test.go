package agent_test

import (
	"crypto/ed25519"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/callout"
	"github.com/nationtech/fleetctl/internal/signing"
	"github.com/nationtech/fleetctl/internal/wire"
)

// rotating is a fleet whose signing key can be rotated, and a device of it that
// was onboarded before anything of that happened.
type rotating struct {
	*fleet
	dir  string // of the agent's state
	file []byte // from onboarding
}

func newRotating(t *testing.T) *rotating {
	t.Helper()
	f := newFleet(t, "127.0.0.1")
	f.signer = must(signing.Open(filepath.Join(t.TempDir(), "signing")))(t)
	return &rotating{f, t.TempDir(), must(json.Marshal(f.signer.Pinned()))(t)}
}

// start runs the device's agent.
func (f *rotating) start() *running {
	f.t.Helper()
	r := &running{engine: newEngine(), source: &source{}, ready: make(chan struct{}),
		keys: func() ([]byte, error) { return f.file, nil }}
	r.source.set(callout.PSK(f.psk, deviceID))
	f.runAs(f.dir, r)
	return r
}

// awaitKeys waits until the device says that it trusts these.
func (f *rotating) awaitKeys(what string, want wire.PinnedKeys) {
	f.t.Helper()
	deadline := time.After(patience)
	for {
		f.mu.Lock()
		info, changed := f.info, f.changed
		f.mu.Unlock()
		if slices.Equal(info.SigningKeys, want.IDs()) && info.KeysRevision == want.Revision {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			f.t.Fatalf("%s: the device trusts %v of revision %d, not %v of %d", what, info.SigningKeys, info.KeysRevision, want.IDs(), want.Revision)
		}
	}
}

func (f *rotating) step(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
	f.publish()
}

// TestFollowsARotation: a device goes from key to key, through restarts, and
// what runs on it stays.
func TestFollowsARotation(t *testing.T) {
	f := newRotating(t)
	r := f.start()
	f.deploy("web", 1, web)
	f.await("running", phase("web", 1, wire.PhaseRunning))
	f.awaitKeys("onboarded", f.signer.Pinned())

	f.step(f.signer.Begin(t.Context(), time.Now()))
	f.awaitKeys("announced", f.signer.Pinned())
	r.stop()
	r = f.start()
	f.awaitKeys("announced, restarted", f.signer.Pinned())
	f.step(f.signer.Switch(t.Context()))
	f.deploy("web", 2, web)
	f.await("the successor's manifest", phase("web", 2, wire.PhaseRunning))
	old := f.signer.Pinned()
	f.step(f.signer.Finish(t.Context()))
	f.awaitKeys("finished", f.signer.Pinned())
	r.stop()

	// What the old key signs counts no more, also after a restart.
	r = f.start()
	f.awaitKeys("finished, restarted", f.signer.Pinned())
	if _, names := r.engine.told(); !slices.Equal(names, []string{"web@2"}) {
		t.Errorf("the engine was told %v", names)
	}
	if slices.Contains(f.signer.Pinned().IDs(), old.IDs()[0]) {
		t.Fatal("the old key is still there")
	}

	// Damage costs the keys that followed; they are found again.
	r.stop()
	if err := os.WriteFile(filepath.Join(f.dir, "signing-keys.json"), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.start()
	f.awaitKeys("damaged", f.signer.Pinned())
	f.deploy("web", 3, web)
	f.await("a manifest after the damage", phase("web", 3, wire.PhaseRunning))
}

// TestSleepsThroughARotation: a device that was away the whole time finds its
// way from the key that it has.
func TestSleepsThroughARotation(t *testing.T) {
	f := newRotating(t)
	r := f.start()
	f.deploy("web", 1, web)
	f.await("running", phase("web", 1, wire.PhaseRunning))
	r.stop()
	f.step(f.signer.Begin(t.Context(), time.Now()))
	f.step(f.signer.Switch(t.Context()))
	f.start()
	f.awaitKeys("back while both are valid", f.signer.Pinned())
	f.deploy("web", 2, web)
	f.await("the successor's manifest", phase("web", 2, wire.PhaseRunning))
}

// TestOnboardedAnew: another control plane's file puts an end to the keys that
// followed from the one before, without a restart.
func TestOnboardedAnew(t *testing.T) {
	f := newRotating(t)
	f.start()
	f.step(f.signer.Begin(t.Context(), time.Now()))
	f.awaitKeys("announced", f.signer.Pinned())
	f.signer = must(signing.Open(filepath.Join(t.TempDir(), "signing")))(t)
	f.file = must(json.Marshal(f.signer.Pinned()))(t)
	f.deploy("web", 1, web)
	f.await("running", phase("web", 1, wire.PhaseRunning))
	f.awaitKeys("onboarded anew", f.signer.Pinned())
}

// TestRefusesAnnouncements: whatever a broker that lies puts beside a manifest,
// the keys of the device stay.
func TestRefusesAnnouncements(t *testing.T) {
	f := newRotating(t)
	f.start()
	f.step(f.signer.Begin(t.Context(), time.Now()))
	dropped := f.signer.Pinned()
	announced := wire.AttachedKeys(must(f.signer.Seal(wire.KindManifest, wire.Manifest{}))(t))[0]
	f.step(f.signer.Finish(t.Context()))
	f.awaitKeys("finished", f.signer.Pinned())

	_, theirs, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	hostile := wire.KeySet{SchemaVersion: 1, Revision: 99, Keys: []ed25519.PublicKey{theirs.Public().(ed25519.PublicKey)}}
	stale := wire.KeySet{SchemaVersion: 1, Revision: 1, Keys: dropped.Keys}
	var edited wire.Envelope
	if err := json.Unmarshal(must(f.signer.Seal(wire.KindKeys, stale))(t), &edited); err != nil {
		t.Fatal(err)
	}
	edited.Payload = must(json.Marshal(hostile))(t)
	claimed := edited
	claimed.Signature = ed25519.Sign(theirs, claimed.Payload)
	for name, set := range map[string]json.RawMessage{
		"an unknown key's":        must(wire.Seal(wire.KindKeys, hostile, theirs))(t),
		"edited":                  must(json.Marshal(edited))(t),
		"with a claimed key":      must(json.Marshal(claimed))(t),
		"one from before":         announced,
		"an old one, signed anew": must(f.signer.Seal(wire.KindKeys, stale))(t),
		"a manifest":              must(f.signer.Seal(wire.KindManifest, hostile))(t),
		"nonsense":                json.RawMessage(`"x"`),
	} {
		t.Run(name, func(t *testing.T) {
			f.revision++
			m := wire.Manifest{SchemaVersion: 1, Device: deviceID, Revision: f.revision}
			f.putManifest(must(wire.AttachKeys(must(f.signer.Seal(wire.KindManifest, m))(t), []json.RawMessage{set}))(t))
			f.await("the manifest", func(s wire.DeviceState) bool { return s.Revision == f.revision && s.Error == "" })
			f.awaitKeys("after it", f.signer.Pinned())
		})
	}
	// And nothing that those keys would sign counts.
	f.putManifest(must(wire.Seal(wire.KindManifest, wire.Manifest{SchemaVersion: 1, Device: deviceID, Revision: 1000}, theirs))(t))
	f.await("the refusal", func(s wire.DeviceState) bool { return s.Error != "" && s.Revision == f.revision })
}
