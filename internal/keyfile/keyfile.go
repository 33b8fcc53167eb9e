// Package keyfile is the format in which a machine keeps its identity at an
// issuer: Zitadel's key files. Devices and the programs of the control plane
// have the same. It knows neither where a file is nor what is done with a key.
package keyfile

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"

	"github.com/nationtech/fleetctl/internal/secretfile"
)

// fileType is what Zitadel calls the key of a machine user.
const fileType = "serviceaccount"

// Key is a machine's identity in the format of Zitadel's key files
// (https://zitadel.com/docs/guides/integrate/service-users/private-key-jwt).
type Key struct {
	KeyID   string
	UserID  string
	Private *rsa.PrivateKey
}

type fileJSON struct {
	Type   string `json:"type"`
	KeyID  string `json:"keyId"`
	Key    string `json:"key"`
	UserID string `json:"userId"`
}

// String hides the key from every format verb and from logs.
func (k Key) String() string { return "key " + k.KeyID + " of user " + k.UserID }

// GoString hides the key from %#v.
func (k Key) GoString() string { return k.String() }

// LogValue hides the key from slog.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// Read reads an identity; a missing one is fs.ErrNotExist.
func Read(path string) (Key, error) {
	data, err := secretfile.Read(path)
	if err != nil {
		return Key{}, err
	}
	k, err := Parse(data)
	if err != nil {
		return Key{}, fmt.Errorf("key file %s: %w", path, err)
	}
	return k, nil
}

// Parse decodes a key file. Its errors quote nothing of the content.
func Parse(data []byte) (Key, error) {
	var in fileJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return Key{}, errors.New("is no JSON key file") // err may quote the key
	}
	if in.Type != fileType {
		return Key{}, fmt.Errorf("type is %q, not %q: this is no machine user's key", in.Type, fileType)
	}
	if in.KeyID == "" || in.UserID == "" {
		return Key{}, errors.New("has no keyId or no userId")
	}
	key, err := ParseRSA([]byte(in.Key))
	return Key{KeyID: in.KeyID, UserID: in.UserID, Private: key}, err
}

// Encode gives the file's content.
func (k Key) Encode() ([]byte, error) {
	data, err := json.Marshal(fileJSON{Type: fileType, KeyID: k.KeyID, Key: string(EncodeRSA(k.Private)), UserID: k.UserID})
	if err != nil {
		return nil, fmt.Errorf("encode key file: %w", err)
	}
	return append(data, '\n'), nil
}

const (
	pemRSA    = "RSA PRIVATE KEY"
	pemPublic = "PUBLIC KEY"
)

// EncodeRSA gives a private key in PEM, PKCS #1 as Zitadel writes it.
func EncodeRSA(key *rsa.PrivateKey) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemRSA, Bytes: x509.MarshalPKCS1PrivateKey(key)})
}

// ParseRSA takes PKCS #1 and PKCS #8. Its errors quote nothing of the key.
func ParseRSA(data []byte) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("the key is not PEM")
	}
	if block.Type == pemRSA {
		key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
		if err != nil {
			return nil, errors.New("the key is no RSA private key")
		}
		return key, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the key is no private key")
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("the key is not RSA")
	}
	return key, nil
}

// PublicPEM is the public half of an identity key, as issuers take it.
func PublicPEM(key *rsa.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("encode public key: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: der})), nil
}
