package devicekey

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nationtech/fleetctl/internal/secretfile"
)

const pemPrivate = "PRIVATE KEY"

// SealingKeys reads the keys in dir that open what was sealed to this device,
// the one in use first; a missing one in use is fs.ErrNotExist.
func SealingKeys(dir string) ([]*ecdh.PrivateKey, error) {
	var keys []*ecdh.PrivateKey
	for _, name := range []string{sealingName, nextSealingName, previousSealingName} {
		key, err := readSealing(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) && len(keys) > 0 {
			continue
		}
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// MakeSealing makes a sealing key to replace the one in use, unless one waits
// already: a rotation that was cut off goes on with the same key.
func (s Store) MakeSealing() (Public, error) {
	if _, err := secretfile.LoadOrCreateFor(s.Owner, s.path(nextSealingName), makeSealing); err != nil {
		return Public{}, err
	}
	return s.Show()
}

// UseSealing puts the key that MakeSealing made into use. The one before stays,
// in the place of the one before that. Without a key that waits it does nothing.
func (s Store) UseSealing() (Public, error) {
	if _, err := readSealing(s.path(nextSealingName)); errors.Is(err, fs.ErrNotExist) {
		return s.Show()
	} else if err != nil {
		return Public{}, err
	}
	if err := os.Remove(s.path(previousSealingName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Public{}, fmt.Errorf("remove the sealing key of two rotations ago: %w", err)
	}
	// Linked and then replaced: there is a whole key in use at every moment.
	if err := os.Link(s.path(sealingName), s.path(previousSealingName)); err != nil {
		return Public{}, fmt.Errorf("keep the sealing key: %w", err)
	}
	if err := os.Rename(s.path(nextSealingName), s.path(sealingName)); err != nil {
		return Public{}, fmt.Errorf("replace the sealing key: %w", err)
	}
	return s.Show()
}

// publicSealing is the public half of the key in a file, nil when there is none.
func (s Store) publicSealing(name string) ([]byte, error) {
	key, err := readSealing(s.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return key.PublicKey().Bytes(), nil
}

func readSealing(path string) (*ecdh.PrivateKey, error) {
	data, err := secretfile.Read(path)
	if err != nil {
		return nil, err
	}
	key, err := parseSealing(data)
	if err != nil {
		return nil, fmt.Errorf("sealing key %s: %w", path, err)
	}
	return key, nil
}

func makeSealing() ([]byte, error) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: der}), err
}

func parseSealing(data []byte) (*ecdh.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("is not PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdh.PrivateKey)
	if !ok || key.Curve() != ecdh.X25519() {
		return nil, errors.New("is not an X25519 key")
	}
	return key, nil
}
