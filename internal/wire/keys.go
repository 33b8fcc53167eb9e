package wire

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
)

// MaxPinnedKeys is how many keys a device trusts: that of the control plane
// and, during a rotation, its successor.
const MaxPinnedKeys = 2

// KeySet says which keys a device has to trust instead of those that it does.
// It is signed (KindKeys) by one of the latter, so that from key to key there
// is a chain, and it is the same for all devices.
type KeySet struct {
	SchemaVersion int `json:"schemaVersion"`
	// Revision grows with every key set of a control plane. A device refuses
	// one that is not above what it has.
	Revision uint64              `json:"revision"`
	Keys     []ed25519.PublicKey `json:"keys"` // 1 to MaxPinnedKeys of 32 bytes, base64 in JSON
}

// ErrOldKeySet says that a key set is not newer than the one in force.
var ErrOldKeySet = errors.New("is not newer than the one in force")

// Follow gives the keys that the sealed KeySet puts in the place of p. Its
// errors are those of Open, ErrOldKeySet, or that it is malformed.
func (p PinnedKeys) Follow(sealed []byte) (PinnedKeys, error) {
	var set KeySet
	if err := Open(KindKeys, sealed, p.Keys, &set); err != nil {
		return p, err
	}
	if set.Revision <= p.Revision {
		return p, fmt.Errorf("key set of revision %d %w, of %d", set.Revision, ErrOldKeySet, p.Revision)
	}
	if err := checkKeys(set.Keys); err != nil {
		return p, fmt.Errorf("key set of revision %d: %w", set.Revision, err)
	}
	return PinnedKeys{SchemaVersion: SchemaVersion, Revision: set.Revision, Keys: set.Keys}, nil
}

// PeekKeySet reads a sealed KeySet without believing it: who signs it, and
// which revision it claims to have.
func PeekKeySet(sealed []byte) (keyID string, revision uint64) {
	var e Envelope
	var set KeySet
	if json.Unmarshal(sealed, &e) != nil || json.Unmarshal(e.Payload, &set) != nil {
		return "", 0
	}
	return e.KeyID, set.Revision
}

// AttachKeys puts sealed KeySets beside what is in an envelope.
func AttachKeys(envelope []byte, sets []json.RawMessage) ([]byte, error) {
	var e Envelope
	if err := json.Unmarshal(envelope, &e); err != nil {
		return nil, fmt.Errorf("attach keys: %w", err)
	}
	e.Keys = sets
	return json.Marshal(e)
}

// AttachedKeys gives the sealed KeySets beside what is in an envelope.
func AttachedKeys(envelope []byte) []json.RawMessage {
	var e Envelope
	if json.Unmarshal(envelope, &e) != nil {
		return nil
	}
	return e.Keys
}

// PinnedKeys is the file of public keys that a device trusts: the control
// plane's key and, during a rotation, its successor's.
type PinnedKeys struct {
	SchemaVersion int                 `json:"schemaVersion"`
	Keys          []ed25519.PublicKey `json:"keys"` // 32 bytes each, base64 in JSON
	// Revision is that of the KeySet with these keys; 0 before the first.
	Revision uint64 `json:"revision,omitempty"`
}

// IDs are the KeyIDs of the keys, in their order.
func (p PinnedKeys) IDs() []string {
	ids := make([]string, len(p.Keys))
	for i, k := range p.Keys {
		ids[i] = KeyID(k)
	}
	return ids
}

// ParsePinnedKeys decodes the file and refuses one without a usable key.
func ParsePinnedKeys(data []byte) (PinnedKeys, error) {
	var p PinnedKeys
	if err := json.Unmarshal(data, &p); err != nil {
		return PinnedKeys{}, fmt.Errorf("decode pinned keys: %w", err)
	}
	if err := checkKeys(p.Keys); err != nil {
		return PinnedKeys{}, fmt.Errorf("pinned keys: %w", err)
	}
	return p, nil
}

func checkKeys(keys []ed25519.PublicKey) error {
	if len(keys) == 0 {
		return errors.New("the list is empty")
	}
	if len(keys) > MaxPinnedKeys {
		return fmt.Errorf("there are %d, more than %d", len(keys), MaxPinnedKeys)
	}
	for i, k := range keys {
		if len(k) != ed25519.PublicKeySize {
			return fmt.Errorf("key %d has %d bytes, not %d", i, len(k), ed25519.PublicKeySize)
		}
	}
	return nil
}
