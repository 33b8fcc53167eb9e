package devicekey

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"

	"github.com/nationtech/fleetctl/internal/secretfile"
)

// keyFileType is what Zitadel calls the key of a machine user.
const keyFileType = "serviceaccount"

// KeyFile is a machine's identity in the format of Zitadel's key files
// (https://zitadel.com/docs/guides/integrate/service-users/private-key-jwt).
type KeyFile struct {
	KeyID  string
	UserID string
	Key    *rsa.PrivateKey
}

type keyFileJSON struct {
	Type   string `json:"type"`
	KeyID  string `json:"keyId"`
	Key    string `json:"key"`
	UserID string `json:"userId"`
}

// String hides the key from every format verb and from logs.
func (k KeyFile) String() string { return "key " + k.KeyID + " of user " + k.UserID }

// GoString hides the key from %#v.
func (k KeyFile) GoString() string { return k.String() }

// LogValue hides the key from slog.
func (k KeyFile) LogValue() slog.Value { return slog.StringValue(k.String()) }

// ReadKeyFile reads an identity; a missing one is fs.ErrNotExist.
func ReadKeyFile(path string) (KeyFile, error) {
	data, err := secretfile.Read(path)
	if err != nil {
		return KeyFile{}, err
	}
	k, err := ParseKeyFile(data)
	if err != nil {
		return KeyFile{}, fmt.Errorf("key file %s: %w", path, err)
	}
	return k, nil
}

// ParseKeyFile decodes a key file. Its errors quote nothing of the content.
func ParseKeyFile(data []byte) (KeyFile, error) {
	var in keyFileJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return KeyFile{}, errors.New("is no JSON")
	}
	if in.Type != keyFileType {
		return KeyFile{}, fmt.Errorf("type is not %q: this is no machine user's key", keyFileType)
	}
	if in.KeyID == "" || in.UserID == "" {
		return KeyFile{}, errors.New("has no keyId or no userId")
	}
	key, err := parseRSA([]byte(in.Key))
	return KeyFile{KeyID: in.KeyID, UserID: in.UserID, Key: key}, err
}

// Encode gives the file's content.
func (k KeyFile) Encode() ([]byte, error) {
	data, err := json.Marshal(keyFileJSON{Type: keyFileType, KeyID: k.KeyID, Key: string(encodeRSA(k.Key)), UserID: k.UserID})
	if err != nil {
		return nil, fmt.Errorf("encode key file: %w", err)
	}
	return append(data, '\n'), nil
}

const (
	pemRSA     = "RSA PRIVATE KEY"
	pemPrivate = "PRIVATE KEY"
	pemPublic  = "PUBLIC KEY"
)

func encodeRSA(key *rsa.PrivateKey) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemRSA, Bytes: x509.MarshalPKCS1PrivateKey(key)})
}

func parseRSA(data []byte) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("the key is not PEM")
	}
	if block.Type == pemRSA {
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
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
