package session

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// KeyBytes is the length of a key for cookies.
const KeyBytes = 32

var errSeal = errors.New("not sealed by this server")

// sealer makes cookies that only we can read or make. A cookie of one purpose
// is none of another.
type sealer struct{ keys []map[purpose]cipher.AEAD }

type purpose string

const (
	forSession purpose = "session"
	forSignIn  purpose = "sign-in"
)

// newSealer takes keys, the newest first: it seals, all of them open.
func newSealer(keys [][]byte) (*sealer, error) {
	if len(keys) == 0 {
		return nil, errors.New("no key for cookies")
	}
	s := &sealer{}
	for _, key := range keys {
		if len(key) != KeyBytes {
			return nil, fmt.Errorf("a key for cookies has %d bytes, not %d", len(key), KeyBytes)
		}
		of := map[purpose]cipher.AEAD{}
		for _, p := range []purpose{forSession, forSignIn} {
			derived, err := hkdf.Key(sha256.New, key, nil, "fleet dashboard "+string(p), chacha20poly1305.KeySize)
			if err != nil {
				return nil, err
			}
			if of[p], err = chacha20poly1305.NewX(derived); err != nil {
				return nil, err
			}
		}
		s.keys = append(s.keys, of)
	}
	return s, nil
}

func (s *sealer) seal(p purpose, v any) (string, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	aead := s.keys[0][p]
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(plain)+aead.Overhead())
	if _, err := rand.Read(nonce); err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(aead.Seal(nonce, nonce, plain, nil)), nil
}

func (s *sealer) open(p purpose, sealed string, v any) error {
	data, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil {
		return errSeal
	}
	for _, key := range s.keys {
		aead := key[p]
		if len(data) < aead.NonceSize() {
			return errSeal
		}
		plain, err := aead.Open(nil, data[:aead.NonceSize()], data[aead.NonceSize():], nil)
		if err == nil {
			return json.Unmarshal(plain, v)
		}
	}
	return errSeal
}
