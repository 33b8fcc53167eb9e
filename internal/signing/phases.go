package signing

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nationtech/fleetctl/internal/wire"
)

// Phase is how far a rotation is.
type Phase string

// The phases, in their order.
const (
	Idle      Phase = ""          // there is one key
	Announced Phase = "announced" // devices learn of the successor; the current key signs
	Switched  Phase = "switched"  // the successor signs; devices trust both
)

// Why a rotation does not go on.
var (
	ErrUnderWay    = errors.New("a rotation of the signing key is under way already")
	ErrNotUnderWay = errors.New("no rotation of the signing key is under way")
)

// maxKeySets bounds what goes beside every manifest. It is enough for a device
// that slept through the last three rotations.
const maxKeySets = 4

// state is the StateFile. It is what decides: it is written after the key that
// it names, and keys that it no longer names are removed after it.
type state struct {
	SchemaVersion int       `json:"schemaVersion"`
	Phase         Phase     `json:"phase,omitempty"`
	Revision      uint64    `json:"revision"`            // of the newest key set
	Current       string    `json:"current"`             // wire.KeyID
	Successor     string    `json:"successor,omitempty"` // the same
	Began         time.Time `json:"began,omitzero"`
	// KeySets lead from earlier keys to those of today, each sealed by one
	// that was in force before it.
	KeySets []json.RawMessage `json:"keySets,omitempty"`
}

// Rotation is what is known of a rotation without asking the devices.
type Rotation struct {
	Phase     Phase
	Current   string // wire.KeyID
	Successor string // the same; "" when Idle
	Signs     string // one of the two
	Revision  uint64
	Began     time.Time // zero when Idle
}

// Rotation tells how far it is.
func (s *Signer) Rotation() Rotation {
	k := s.snapshot()
	return Rotation{Phase: k.state.Phase, Current: k.state.Current, Successor: k.state.Successor,
		Signs: wire.KeyID(public(k.active())), Revision: k.state.Revision, Began: k.state.Began}
}

// Begin makes a successor and announces it, signed by the current key.
func (s *Signer) Begin(ctx context.Context, now time.Time) error {
	return s.change(ctx, func(k *keys) error {
		if k.state.Phase != Idle {
			return ErrUnderWay
		}
		data, err := Generate()
		if err == nil {
			k.successor, err = parse(data)
		}
		if err == nil {
			err = s.store.Write(ctx, SuccessorFile, data)
		}
		if err != nil {
			return fmt.Errorf("make a successor: %w", err)
		}
		k.state.Phase, k.state.Successor, k.state.Began = Announced, wire.KeyID(public(k.successor)), now.UTC()
		return k.announce(k.current)
	})
}

// Switch signs with the successor from now on. Devices go on trusting both keys.
func (s *Signer) Switch(ctx context.Context) error {
	return s.change(ctx, func(k *keys) error {
		if k.state.Phase != Announced {
			return ErrNotUnderWay
		}
		k.state.Phase = Switched
		return nil
	})
}

// Finish puts the successor in the place of the current key, tells devices to
// trust it alone, and removes the other.
func (s *Signer) Finish(ctx context.Context) error {
	return s.change(ctx, func(k *keys) error {
		if k.state.Phase == Idle {
			return ErrNotUnderWay
		}
		k.settle(k.successor)
		return k.announce(k.current)
	})
}

// Cancel goes back to the current key and tells devices to trust it alone.
func (s *Signer) Cancel(ctx context.Context) error {
	return s.change(ctx, func(k *keys) error {
		if k.state.Phase == Idle {
			return ErrNotUnderWay
		}
		k.settle(k.current)
		return k.announce(k.current)
	})
}

// settle ends a rotation with one key.
func (k *keys) settle(key ed25519.PrivateKey) {
	k.current, k.successor = key, nil
	k.state.Phase, k.state.Current, k.state.Successor, k.state.Began = Idle, wire.KeyID(public(key)), "", time.Time{}
}

// announce adds a key set with the keys of k. One that the same key signed
// earlier is of no use to anybody any more, nor is what followed from it:
// whoever trusts the key takes the newer one.
func (k *keys) announce(by ed25519.PrivateKey) error {
	k.state.Revision++
	sealed, err := wire.Seal(wire.KindKeys, wire.KeySet{SchemaVersion: wire.SchemaVersion, Revision: k.state.Revision, Keys: k.public()}, by)
	if err != nil {
		return fmt.Errorf("announce signing keys: %w", err)
	}
	signer := wire.KeyID(public(by))
	sets := slices.Clone(k.state.KeySets)
	if i := slices.IndexFunc(sets, func(set json.RawMessage) bool { id, _ := wire.PeekKeySet(set); return id == signer }); i >= 0 {
		sets = sets[:i]
	}
	sets = append(sets, sealed)
	k.state.KeySets = sets[max(0, len(sets)-maxKeySets):]
	return nil
}

// change makes one step: it is stored before it is in force.
func (s *Signer) change(ctx context.Context, step func(*keys) error) error {
	s.write.Lock()
	defer s.write.Unlock()
	k := s.snapshot()
	if err := step(&k); err != nil {
		return err
	}
	k.state.SchemaVersion = wire.SchemaVersion
	data, err := json.MarshalIndent(k.state, "", "  ")
	if err == nil {
		err = s.store.Write(ctx, StateFile, append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write state of the signing keys: %w", err)
	}
	s.set(k)
	files, err := s.store.Read(ctx)
	if err != nil {
		return fmt.Errorf("read signing keys: %w", err)
	}
	return s.tidy(ctx, files)
}
