// Package devicekey owns the keys that a device makes for itself: which files
// they are in, their formats, and making, binding and rotating them. It
// speaks to nobody: registering a public half is onboarding's affair, and
// using a key that of whoever holds it (internal/credential, agent).
//
// A private half never leaves the device. On it, in Dir:
//
//	identity.json  the identity in use, a key file as Zitadel's: RSA private key, key id, user id
//	identity.key   an identity key that was made and is not registered yet (PKCS #1, PEM)
//	sealing.key    X25519, opens what is sealed to this device (PKCS #8, PEM)
//	sealing.next.key      one that was made to replace it, and is not in use yet
//	sealing.previous.key  the one before: what lies on the disk may be sealed to it
//
// all of them fleet-agent's, 0400. A rotation makes identity.key beside
// identity.json, has it registered, and only then replaces identity.json by a
// rename, so that at every moment there is one whole identity that works. That of
// the sealing key goes the same way, and what was sealed to any of the three
// opens: without a network too, before it was sealed anew.
package devicekey

// Where the keys of a device are.
const (
	Dir          = "/etc/fleet-agent"
	IdentityFile = Dir + "/" + identityName

	identityName        = "identity.json"
	pendingName         = "identity.key"
	sealingName         = "sealing.key"
	nextSealingName     = "sealing.next.key"
	previousSealingName = "sealing.previous.key"
)

// schemaVersion of Public.
const schemaVersion = 1

// Public is what others may know of a device's keys. fleet-agent keygen prints
// it; onboarding registers it.
type Public struct {
	SchemaVersion int `json:"schemaVersion"`
	// Identity is the key in use; nil before the first was bound.
	Identity *Identity `json:"identity,omitempty"`
	// Pending is a key that waits to be registered and bound.
	Pending *Identity `json:"pending,omitempty"`
	// SealingKey is the public half of the sealing key, 32 bytes; base64 in JSON.
	SealingKey []byte `json:"sealingKey,omitempty"`
	// NextSealingKey is that of a key that waits to be registered and used.
	NextSealingKey []byte `json:"nextSealingKey,omitempty"`
}

// Identity is the public half of an identity key.
type Identity struct {
	PublicKey string `json:"publicKey"` // PEM, PKIX
	KeyID     string `json:"keyId,omitempty"`
	UserID    string `json:"userId,omitempty"`
}
