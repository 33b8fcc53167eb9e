package wire

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// Kind separates what a signature is for, so that a signed payload of one
// kind is never accepted as another.
type Kind string

// What the control plane signs.
const (
	KindManifest Kind = "manifest"
	KindCommand  Kind = "command"
	// KindKeys is for a KeySet.
	KindKeys Kind = "keys"
	// KindMaterialTag is never sent: see Sealed.Tag.
	KindMaterialTag Kind = "material-tag"
)

// Why an envelope is refused.
var (
	ErrUnsigned     = errors.New("not signed")
	ErrUnknownKey   = errors.New("signed by a key that is not pinned")
	ErrBadSignature = errors.New("signature does not match")
)

// Envelope carries a payload and its signature. The signature is over the
// payload's bytes as they are, so there is nothing to canonicalise: what was
// verified is what gets decoded.
type Envelope struct {
	Payload   []byte `json:"payload"`   // the JSON that was signed; base64 in JSON
	KeyID     string `json:"keyId"`     // KeyID of the signing key
	Signature []byte `json:"signature"` // Ed25519 (RFC 8032), 64 bytes
	// Keys are sealed KeySets, oldest first, beside a manifest: a device that
	// does not know the key of the signature finds its way to it by them. The
	// signature does not cover them; each has its own.
	Keys []json.RawMessage `json:"keys,omitempty"`
}

// KeyID names a public key: the first 16 hex digits of its SHA-256.
func KeyID(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:8])
}

// Seal marshals v and signs it, giving an Envelope as JSON.
func Seal(kind Kind, v any, key ed25519.PrivateKey) ([]byte, error) {
	payload, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("marshal %s: %w", kind, err)
	}
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok || len(key) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("sign %s: not an Ed25519 private key", kind)
	}
	return json.Marshal(Envelope{
		Payload:   payload,
		KeyID:     KeyID(public),
		Signature: ed25519.Sign(key, signedBytes(kind, payload)),
	})
}

// Open verifies an Envelope against the pinned keys and decodes its payload
// into v. Nothing of the payload is looked at before the signature is right.
func Open(kind Kind, data []byte, pinned []ed25519.PublicKey, v any) error {
	var e Envelope
	if err := json.Unmarshal(data, &e); err != nil {
		return fmt.Errorf("open %s: %w", kind, errors.Join(ErrUnsigned, err))
	}
	if len(e.Signature) == 0 || len(e.Payload) == 0 {
		return fmt.Errorf("open %s: %w", kind, ErrUnsigned)
	}
	i := slices.IndexFunc(pinned, func(k ed25519.PublicKey) bool { return KeyID(k) == e.KeyID })
	if i < 0 {
		return fmt.Errorf("open %s: %w (key id %q)", kind, ErrUnknownKey, clip(e.KeyID, 32))
	}
	if !ed25519.Verify(pinned[i], signedBytes(kind, e.Payload), e.Signature) {
		return fmt.Errorf("open %s: %w", kind, ErrBadSignature)
	}
	if err := json.Unmarshal(e.Payload, v); err != nil {
		return fmt.Errorf("decode signed %s: %w", kind, err)
	}
	return nil
}

// signedBytes prefixes the payload with its purpose. The prefix has a fixed
// shape that ends in NUL, so two kinds never produce the same bytes.
func signedBytes(kind Kind, payload []byte) []byte {
	return append([]byte("fleet.nationtech.io/"+string(kind)+"/v1\x00"), payload...)
}
