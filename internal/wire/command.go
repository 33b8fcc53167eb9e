package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Verb is what a command asks for; it is the last token of its subject.
type Verb string

// The verbs.
const (
	VerbPing Verb = "ping" // answers at once; body and answer are empty
)

// MaxCommandLifetime is the longest time between a command's issue and its
// expiry. It bounds how many nonces an agent has to remember.
const MaxCommandLifetime = 5 * time.Minute

// Command is a request to a device, signed (KindCommand).
type Command struct {
	SchemaVersion int             `json:"schemaVersion"`
	Device        string          `json:"device"`
	Verb          Verb            `json:"verb"`
	Nonce         string          `json:"nonce"` // one NATS token, never used twice
	Expires       time.Time       `json:"expires"`
	Body          json.RawMessage `json:"body,omitempty"`
}

// Why a command is refused.
var (
	ErrOtherDevice = errors.New("addressed to another device")
	ErrExpired     = errors.New("expired")
	ErrTooLong     = errors.New("valid for longer than is allowed")
	ErrMalformed   = errors.New("malformed")
)

// Validate checks that the command is for this device and verb and in force at
// now. That its nonce is new is for the agent to check, which remembers them.
func (c *Command) Validate(device string, verb Verb, now time.Time) error {
	switch {
	case c.Device != device:
		return fmt.Errorf("command for %q: %w", clip(c.Device, 80), ErrOtherDevice)
	case c.Verb != verb:
		return fmt.Errorf("command %q arrived as %q: %w", clip(string(c.Verb), 40), verb, ErrMalformed)
	case ValidateNonce(c.Nonce) != nil:
		return fmt.Errorf("command nonce: %w", ErrMalformed)
	case !now.Before(c.Expires):
		return fmt.Errorf("command expired at %s: %w", c.Expires.Format(time.RFC3339), ErrExpired)
	case c.Expires.Sub(now) > MaxCommandLifetime:
		return fmt.Errorf("command expires at %s: %w", c.Expires.Format(time.RFC3339), ErrTooLong)
	}
	return nil
}

// ValidateNonce accepts 16 to 64 of a-z, A-Z, 0-9, "-" and "_": one token.
func ValidateNonce(s string) error {
	if len(s) < 16 || len(s) > 64 {
		return fmt.Errorf("nonce has %d characters, not 16 to 64", len(s))
	}
	for _, r := range s {
		if !isNameRune(r) && r != '_' && (r < 'A' || r > 'Z') {
			return fmt.Errorf("nonce has %q", r)
		}
	}
	return nil
}

// Reply is one message of a command's answer, on ReplySubject. An answer is
// any number of replies with Data and then one with Done.
type Reply struct {
	SchemaVersion int         `json:"schemaVersion"`
	Sequence      uint64      `json:"sequence"` // from 0, without a gap
	Data          []byte      `json:"data,omitempty"`
	Done          bool        `json:"done,omitempty"`
	Error         *ReplyError `json:"error,omitempty"` // with Done
	// Consumed is how many pieces of the command's input were read so far.
	Consumed uint64 `json:"consumed,omitempty"`
}

// ReplyCode says why a command failed, for a program to branch on.
type ReplyCode string

// The reply codes.
const (
	ReplyRefused     ReplyCode = "refused"      // signature, expiry, replay
	ReplyUnknownVerb ReplyCode = "unknown-verb" // an older agent
	ReplyFailed      ReplyCode = "failed"       // tried, and did not work
)

// ReplyError is a failed command's reason.
type ReplyError struct {
	Code    ReplyCode `json:"code"`
	Message string    `json:"message"`
}
