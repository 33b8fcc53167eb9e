package agent

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"sync"

	"github.com/nationtech/fleetctl/internal/wire"
)

// keyring opens what the control plane signed.
type keyring struct {
	load func() ([]ed25519.PublicKey, error)

	mu   sync.Mutex
	keys []ed25519.PublicKey
}

func newKeyring(load func() ([]ed25519.PublicKey, error)) (*keyring, error) {
	keys, err := load()
	if err != nil {
		return nil, fmt.Errorf("load pinned keys: %w", err)
	}
	return &keyring{load: load, keys: keys}, nil
}

// open verifies data and decodes it into v. For a key that is not known the
// pinned keys are read once more.
func (k *keyring) open(kind wire.Kind, data []byte, v any) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := wire.Open(kind, data, k.keys, v)
	if !errors.Is(err, wire.ErrUnknownKey) {
		return err
	}
	keys, loadErr := k.load()
	if loadErr != nil {
		return errors.Join(err, fmt.Errorf("load pinned keys again: %w", loadErr))
	}
	k.keys = keys
	return wire.Open(kind, data, k.keys, v)
}
