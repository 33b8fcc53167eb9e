// Package signing keeps the control plane's Ed25519 key, with which manifests
// and commands are signed, says which public keys devices pin, and replaces the
// key by another. Who has learned of the other, and when it is time to use it,
// is internal/signing/rotation's affair; the format of what is signed is
// internal/wire's.
package signing

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"

	"github.com/nationtech/fleetctl/internal/wire"
)

// Signer signs as the control plane. It is safe for concurrent use.
type Signer struct {
	store Store
	write sync.Mutex // held for the whole of a change

	mu      sync.RWMutex
	keys    keys
	changed chan struct{} // closed and replaced when keys are others
}

// keys are what is stored.
type keys struct {
	state     state
	current   ed25519.PrivateKey
	successor ed25519.PrivateKey // nil outside of a rotation
}

// Open loads the key in dir, or makes one at first start.
func Open(dir string) (*Signer, error) {
	store, err := openDir(dir)
	if err != nil {
		return nil, err
	}
	return New(context.Background(), store)
}

// New loads the key that is stored, or makes one when nothing is.
func New(ctx context.Context, store Store) (*Signer, error) {
	s := &Signer{store: store, changed: make(chan struct{})}
	s.write.Lock()
	defer s.write.Unlock()
	files, err := store.Read(ctx)
	if err != nil {
		return nil, fmt.Errorf("load signing key: %w", err)
	}
	if len(files) == 0 {
		if files, err = first(ctx, store); err != nil {
			return nil, err
		}
	}
	if s.keys, err = parseFiles(files); err != nil {
		return nil, err
	}
	return s, s.tidy(ctx, files)
}

func first(ctx context.Context, store Store) (map[string][]byte, error) {
	data, err := Generate()
	if err != nil {
		return nil, fmt.Errorf("make signing key: %w", err)
	}
	if err := store.Write(ctx, CurrentFile, data); err != nil {
		return nil, fmt.Errorf("make signing key: %w", err)
	}
	return map[string][]byte{CurrentFile: data}, nil
}

// Seal signs v (wire.Seal). Beside a manifest go the key sets by which a device
// that knows an earlier key finds its way to this one.
func (s *Signer) Seal(kind wire.Kind, v any) ([]byte, error) {
	k := s.snapshot()
	sealed, err := wire.Seal(kind, v, k.active())
	if err != nil || kind != wire.KindManifest || len(k.state.KeySets) == 0 {
		return sealed, err
	}
	return wire.AttachKeys(sealed, k.state.KeySets)
}

// Pinned are the keys that a device has to trust: the current one first.
func (s *Signer) Pinned() wire.PinnedKeys {
	k := s.snapshot()
	return wire.PinnedKeys{SchemaVersion: wire.SchemaVersion, Keys: k.public(), Revision: k.state.Revision}
}

// Epoch names how manifests are signed now: it changes with the key that signs
// and with the key sets that go beside a manifest.
func (s *Signer) Epoch() string {
	k := s.snapshot()
	return epoch(wire.KeyID(public(k.active())), k.state.Revision)
}

// EpochOf is the Epoch in which a manifest was sealed.
func (*Signer) EpochOf(sealed []byte) string {
	var e wire.Envelope
	if json.Unmarshal(sealed, &e) != nil {
		return ""
	}
	revision := uint64(0)
	if n := len(e.Keys); n > 0 {
		_, revision = wire.PeekKeySet(e.Keys[n-1])
	}
	return epoch(e.KeyID, revision)
}

func epoch(keyID string, revision uint64) string {
	return keyID + "/" + strconv.FormatUint(revision, 10)
}

// Changed is closed at the next change of keys.
func (s *Signer) Changed() <-chan struct{} {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.changed
}

func (s *Signer) snapshot() keys {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.keys
}

func (s *Signer) set(k keys) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = k
	close(s.changed)
	s.changed = make(chan struct{})
}

// active is the key that signs.
func (k *keys) active() ed25519.PrivateKey {
	if k.state.Phase == Switched {
		return k.successor
	}
	return k.current
}

// public are the keys that devices trust.
func (k *keys) public() []ed25519.PublicKey {
	out := []ed25519.PublicKey{public(k.current)}
	if k.successor != nil {
		out = append(out, public(k.successor))
	}
	return out
}

func public(key ed25519.PrivateKey) ed25519.PublicKey {
	return ed25519.PublicKey(key[ed25519.SeedSize:]) // RFC 8032: seed, then public key
}
