package devicekey

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/keyfile"
	"github.com/nationtech/fleetctl/internal/secretfile"
)

// identityBits is what issuers demand at the least; more costs a small board
// seconds at each token, for a key that can be rotated at any time.
const identityBits = 2048

// Store is a device's keys in a directory that only root writes to.
type Store struct {
	Dir   string
	Owner secretfile.Owner // who uses the keys
}

func (s Store) path(name string) string { return filepath.Join(s.Dir, name) }

// Make makes the keys that are missing and leaves those that are there. With
// rotate it makes an identity key to replace the one in use, unless one is
// pending already: a rotation that was cut off goes on with the same key.
// Several at once end with the same keys.
func (s Store) Make(rotate bool) (Public, error) {
	if _, err := secretfile.LoadOrCreateFor(s.Owner, s.path(sealingName), makeSealing); err != nil {
		return Public{}, err
	}
	bound, err := keyfile.Read(s.path(identityName))
	if err == nil {
		if err := s.dropBound(bound.Private); err != nil {
			return Public{}, err
		}
	}
	switch {
	case err == nil && !rotate:
		return s.Show()
	case err == nil || errors.Is(err, fs.ErrNotExist):
	case !rotate:
		return Public{}, hint.Wrap(err, "make a new identity with: fleetctl enroll --rotate")
	}
	_, err = secretfile.LoadOrCreateFor(s.Owner, s.path(pendingName), func() ([]byte, error) {
		key, err := rsa.GenerateKey(rand.Reader, identityBits)
		if err != nil {
			return nil, err
		}
		return keyfile.EncodeRSA(key), nil
	})
	if err != nil {
		return Public{}, err
	}
	return s.Show()
}

// Replace makes all keys anew: those that are there were copied from another
// device, along with its disk. The identity in use stays until Bind.
func (s Store) Replace() (Public, error) {
	for _, name := range []string{pendingName, sealingName, nextSealingName, previousSealingName} {
		if err := os.Remove(s.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Public{}, fmt.Errorf("remove another device's key: %w", err)
		}
	}
	return s.Make(true)
}

// Show gives the public halves of the keys that are there. An identity that
// cannot be read is as good as none: it has to be replaced.
func (s Store) Show() (Public, error) {
	p := Public{SchemaVersion: schemaVersion}
	bound, err := keyfile.Read(s.path(identityName))
	if err == nil {
		text, err := keyfile.PublicPEM(&bound.Private.PublicKey)
		if err != nil {
			return Public{}, err
		}
		p.Identity = &Identity{PublicKey: text, KeyID: bound.KeyID, UserID: bound.UserID}
	}
	pending, err := s.pending()
	switch {
	case err == nil && (bound.Private == nil || !pending.Equal(bound.Private)):
		text, err := keyfile.PublicPEM(&pending.PublicKey)
		if err != nil {
			return Public{}, err
		}
		p.Pending = &Identity{PublicKey: text}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return Public{}, err
	}
	if p.SealingKey, err = s.publicSealing(sealingName); err != nil {
		return Public{}, err
	}
	if p.NextSealingKey, err = s.publicSealing(nextSealingName); err != nil {
		return Public{}, err
	}
	return p, nil
}

func (s Store) pending() (*rsa.PrivateKey, error) {
	data, err := secretfile.Read(s.path(pendingName))
	if err != nil {
		return nil, err
	}
	key, err := keyfile.ParseRSA(data)
	if err != nil {
		return nil, fmt.Errorf("identity key %s: %w", s.path(pendingName), err)
	}
	return key, nil
}

// dropBound finishes a Bind that was cut off after the identity was in place.
func (s Store) dropBound(bound *rsa.PrivateKey) error {
	pending, err := s.pending()
	if err != nil || !pending.Equal(bound) {
		return nil
	}
	return s.dropPending()
}

func (s Store) dropPending() error {
	if err := os.Remove(s.path(pendingName)); err != nil {
		return fmt.Errorf("remove the pending key, which is in use now: %w", err)
	}
	return nil
}

// Bind puts the pending key into use under the names that an issuer gave to it
// and its user. Doing it again changes nothing.
func (s Store) Bind(userID, keyID string) (Public, error) {
	if userID == "" || keyID == "" {
		return Public{}, errors.New("bind identity key: a user id and a key id are needed")
	}
	key, err := s.pending()
	if errors.Is(err, fs.ErrNotExist) {
		bound, failed := keyfile.Read(s.path(identityName))
		if failed == nil && bound.UserID == userID && bound.KeyID == keyID {
			return s.Show()
		}
		return Public{}, hint.New("bind identity key: none is pending", "make one with: fleet-agent keygen --rotate")
	}
	if err != nil {
		return Public{}, err
	}
	data, err := keyfile.Key{KeyID: keyID, UserID: userID, Private: key}.Encode()
	if err != nil {
		return Public{}, err
	}
	if err := secretfile.WriteFor(s.Owner, s.path(identityName), data); err != nil {
		return Public{}, err
	}
	if err := s.dropPending(); err != nil {
		return Public{}, err
	}
	return s.Show()
}
