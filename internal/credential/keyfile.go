package credential

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/secretfile"
)

// keyFileType is what Zitadel calls a machine user's key.
const keyFileType = "serviceaccount"

// KeyFile is a machine's identity in Zitadel's format
// (https://zitadel.com/docs/guides/integrate/private-key-jwt): on a device
// /etc/fleet-agent/identity.json.
type KeyFile struct {
	Type   string `json:"type"` // "serviceaccount"
	KeyID  string `json:"keyId"`
	Key    string `json:"key"` // RSA private key, PEM
	UserID string `json:"userId"`
}

// machineKey is what a key file says, ready to sign with.
type machineKey struct {
	user  string
	keyID string
	key   *rsa.PrivateKey
}

// readKeyFile reads it anew for each token, so that a replaced key needs no
// restart.
func readKeyFile(path string) (machineKey, error) {
	data, err := secretfile.Read(path)
	if err != nil {
		return machineKey{}, fmt.Errorf("identity: %w", err)
	}
	key, err := parseKeyFile(data)
	if err != nil {
		return machineKey{}, hint.Wrap(fmt.Errorf("identity %s: %w", path, err), "fleetctl enroll writes this file; --rotate replaces it")
	}
	return key, nil
}

func parseKeyFile(data []byte) (machineKey, error) {
	var f KeyFile
	if err := json.Unmarshal(data, &f); err != nil {
		return machineKey{}, errors.New("it is no JSON key file") // err may quote the key
	}
	switch {
	case f.Type != keyFileType:
		return machineKey{}, fmt.Errorf("its type is %q, not %q", f.Type, keyFileType)
	case f.KeyID == "" || f.UserID == "":
		return machineKey{}, errors.New("it has no keyId or no userId")
	}
	block, _ := pem.Decode([]byte(f.Key))
	if block == nil {
		return machineKey{}, errors.New("its key is not PEM")
	}
	key, err := parseRSA(block)
	if err != nil {
		return machineKey{}, err
	}
	return machineKey{user: f.UserID, keyID: f.KeyID, key: key}, nil
}

// parseRSA takes PKCS #1, as Zitadel writes it, and PKCS #8.
func parseRSA(block *pem.Block) (*rsa.PrivateKey, error) {
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	any, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("its key is no RSA private key")
	}
	key, ok := any.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("its key is no RSA private key")
	}
	return key, nil
}
