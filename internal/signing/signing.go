// Package signing keeps the control plane's Ed25519 key, with which manifests
// and commands are signed, and says which public keys devices pin. The format
// of what is signed is internal/wire's.
package signing

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/secretfile"
	"github.com/nationtech/fleetctl/internal/wire"
)

// Signer signs as the control plane. It is safe for concurrent use.
type Signer struct {
	current   ed25519.PrivateKey
	successor ed25519.PrivateKey
}

// Open loads the keys in dir, or makes them at first start: the current one and
// its successor, which devices pin as well, so that the first can be replaced
// without a visit to every device.
func Open(dir string) (*Signer, error) {
	if err := secretfile.EnsureDir(dir); err != nil {
		return nil, err
	}
	current, err := load(filepath.Join(dir, "signing.key"))
	if err != nil {
		return nil, err
	}
	successor, err := load(filepath.Join(dir, "signing-next.key"))
	if err != nil {
		return nil, err
	}
	return &Signer{current, successor}, nil
}

// Seal signs v (wire.Seal).
func (s *Signer) Seal(kind wire.Kind, v any) ([]byte, error) { return wire.Seal(kind, v, s.current) }

// Pinned are the keys that a device has to trust: the current one first.
func (s *Signer) Pinned() wire.PinnedKeys {
	return wire.PinnedKeys{SchemaVersion: wire.SchemaVersion, Keys: []ed25519.PublicKey{public(s.current), public(s.successor)}}
}

// PinnedJSON is the file of pinned keys on a device.
func (s *Signer) PinnedJSON() ([]byte, error) {
	data, err := json.Marshal(s.Pinned())
	if err != nil {
		return nil, fmt.Errorf("encode pinned keys: %w", err)
	}
	return append(data, '\n'), nil
}

func public(key ed25519.PrivateKey) ed25519.PublicKey {
	return ed25519.PublicKey(key[ed25519.SeedSize:]) // RFC 8032: seed, then public key
}

func load(path string) (ed25519.PrivateKey, error) {
	data, err := secretfile.LoadOrCreate(path, create)
	if err != nil {
		return nil, fmt.Errorf("load signing key: %w", err)
	}
	key, err := parse(data)
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("load signing key %s: %w", path, err),
			"restore it from a backup; with a new key every device has to be onboarded again")
	}
	return key, nil
}

func create() ([]byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func parse(data []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("it is a %T, not an Ed25519 key", key)
	}
	return private, nil
}
