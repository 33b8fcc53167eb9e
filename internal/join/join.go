// Package join is the protocol by which a device asks to join a fleet and waits
// for a person's approval: what both sides say, and the code that the person
// carries from the device's screen to the control plane. It owns no transport
// and keeps nothing.
//
//	device → server   POST /v1/joins             Request, with a commitment to a nonce
//	server → device                              Receipt, with the server's nonce
//	device → server   PUT  /v1/joins/{id}        Reveal
//	device → server   GET  /v1/joins/{id}        Status, until it is decided
//	person → server   POST /v1/devices/{device}/join/approve   Approval, with the code
//
// Both sides compute the code from everything that was said and from the
// authority of the server's certificate, as each has seen it. Somebody in
// between who shows the device another authority, or the server another key,
// has to make two codes equal, and cannot: the device is bound to its nonce
// before it hears the server's, and the server gives its own before it hears
// the device's (the short authentication strings of RFC 6189, 4.4.1.1). So the
// code that a person types approves the device's keys and the server's
// authority at once.
package join

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"strings"
	"time"

	"github.com/nationtech/fleetctl/internal/wire"
)

// SchemaVersion is the value of every schemaVersion field.
const SchemaVersion = 1

// NonceBytes is the length of both sides' nonces.
const NonceBytes = 32

// Request is what a device asks with.
type Request struct {
	SchemaVersion int    `json:"schemaVersion"`
	DeviceID      string `json:"deviceId"`
	MachineID     string `json:"machineId"`   // a name of internal/machineid
	IdentityKey   string `json:"identityKey"` // public, PEM
	SealingKey    []byte `json:"sealingKey"`  // public, X25519
	Commitment    []byte `json:"commitment"`  // Commit of the device's nonce
	Facts         Facts  `json:"facts"`
}

// Facts help a person to recognise the device. Nobody checks them.
type Facts struct {
	Hostname     string `json:"hostname,omitempty"`
	Architecture string `json:"architecture,omitempty"`
	OS           string `json:"os,omitempty"`
	Model        string `json:"model,omitempty"`
	AgentVersion string `json:"agentVersion,omitempty"`
}

// Receipt answers a Request.
type Receipt struct {
	SchemaVersion int       `json:"schemaVersion"`
	ID            string    `json:"id"`
	Token         string    `json:"token"` // proves to be who asked
	ServerNonce   []byte    `json:"serverNonce"`
	Expires       time.Time `json:"expires"`
}

// Reveal shows what the device was bound to.
type Reveal struct {
	Nonce []byte `json:"nonce"`
}

// State of a request.
type State string

// The states.
const (
	Pending  State = "pending"
	Approved State = "approved"
	Denied   State = "denied"
)

// Status is what became of a request.
type Status struct {
	SchemaVersion int    `json:"schemaVersion"`
	State         State  `json:"state"`
	Grant         *Grant `json:"grant,omitempty"` // of an approved one
}

// Grant is everything that an approved device needs.
type Grant struct {
	NATSURLs    []string        `json:"natsURLs"`
	CAPEM       string          `json:"caPEM"`
	SigningKeys wire.PinnedKeys `json:"signingKeys"`
	Issuer      string          `json:"issuer"`
	ProjectID   string          `json:"projectId"`
	IssuerCAPEM string          `json:"issuerCAPEM,omitempty"`
	UserID      string          `json:"userId"`
	KeyID       string          `json:"keyId"`
}

// Approval is what a person says.
type Approval struct {
	Code  string `json:"code"`
	OrgID string `json:"orgId,omitempty"` // of the issuer's organisation
}

// Authority gives the certificate (DER) in caPEM that Code takes: the first.
func Authority(caPEM []byte) ([]byte, error) {
	block, _ := pem.Decode(caPEM)
	if block == nil {
		return nil, errors.New("the server's authority is not PEM")
	}
	return block.Bytes, nil
}

// Commit binds to a nonce without showing it.
func Commit(nonce []byte) []byte {
	sum := sha256.Sum256(append([]byte("fleet join commitment 1\x00"), nonce...))
	return sum[:]
}

// Opens says whether nonce is what a commitment was made of.
func Opens(commitment, nonce []byte) bool {
	return len(nonce) == NonceBytes && subtle.ConstantTimeCompare(commitment, Commit(nonce)) == 1
}

// alphabet has no vowels, so no words, and no digits to take for letters
// (RFC 8628, 6.1).
const alphabet = "BCDFGHJKLMNPQRSTVWXZ"

const codeLetters = 8 // 34 bits, for one try

// Code is what the person compares by typing it: eight letters, in two groups.
// authority is the certificate (DER) of the authority that vouches for the
// server.
func Code(authority []byte, r Request, receipt Receipt, nonce []byte) string {
	h := sha256.New()
	for _, part := range [][]byte{
		[]byte("fleet join code 1"), authority, []byte(r.DeviceID), []byte(r.MachineID), []byte(r.IdentityKey), r.SealingKey,
		r.Commitment, []byte(receipt.ID), receipt.ServerNonce, nonce,
	} {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(part)))
		h.Write(size[:])
		h.Write(part)
	}
	n := binary.BigEndian.Uint64(h.Sum(nil)) // the bias of the remainder is below 2^-29
	var b strings.Builder
	for i := range codeLetters {
		if i == codeLetters/2 {
			b.WriteByte('-')
		}
		b.WriteByte(alphabet[n%uint64(len(alphabet))])
		n /= uint64(len(alphabet))
	}
	return b.String()
}

// Same compares a code with what a person typed: case, blanks and the hyphen
// do not matter.
func Same(code, typed string) bool {
	return subtle.ConstantTimeCompare([]byte(letters(code)), []byte(letters(typed))) == 1
}

func letters(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z':
			return r
		case r == ' ' || r == '-':
			return -1
		}
		return '?'
	}, s)
}

const maxFact = 200 // bytes

// Validate refuses what no device says. Keys are checked by who uses them.
func (r *Request) Validate() error {
	errs := []error{wire.ValidateDeviceID(r.DeviceID)}
	if len(r.Commitment) != sha256.Size {
		errs = append(errs, errors.New("commitment: is no SHA-256"))
	}
	if len(r.SealingKey) != 32 {
		errs = append(errs, errors.New("sealingKey: is no X25519 public key"))
	}
	if len(r.IdentityKey) == 0 || len(r.IdentityKey) > 4096 {
		errs = append(errs, errors.New("identityKey: is no public key"))
	}
	for _, fact := range []string{r.Facts.Hostname, r.Facts.Architecture, r.Facts.OS, r.Facts.Model, r.Facts.AgentVersion} {
		if len(fact) > maxFact {
			errs = append(errs, errors.New("facts: too long"))
			break
		}
	}
	return errors.Join(errs...)
}
