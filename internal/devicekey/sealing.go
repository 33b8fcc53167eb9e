package devicekey

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/nationtech/fleetctl/internal/secretfile"
)

const pemPrivate = "PRIVATE KEY"

// ReadSealingKey reads the key that opens what was sealed to this device; a
// missing one is fs.ErrNotExist.
func ReadSealingKey(path string) (*ecdh.PrivateKey, error) {
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
