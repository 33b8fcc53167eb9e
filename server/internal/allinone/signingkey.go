package allinone

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/nationtech/fleetctl/internal/secretfile"
)

// signingKey reads the key that signing.Open has made in its directory: the
// operator takes the key itself, not something that signs with it.
func signingKey(path string) (ed25519.PrivateKey, error) {
	data, err := secretfile.Read(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("signing key %s: no PEM block", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("signing key %s: %w", path, err)
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("signing key %s: it is a %T", path, key)
	}
	return private, nil
}
