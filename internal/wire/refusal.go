package wire

import "errors"

// Refusal says why a device did not take what it found, for a program to
// branch on.
type Refusal string

// The refusals.
const (
	RefusedUnsigned  Refusal = "unsigned"
	RefusedKey       Refusal = "unknown-key"
	RefusedSignature Refusal = "bad-signature"
	RefusedDevice    Refusal = "other-device"
	RefusedRevision  Refusal = "old-revision"
	RefusedContent   Refusal = "not-as-signed" // a desired state without the hash that the manifest has of it
	RefusedMissing   Refusal = "missing"       // a desired state that the manifest names is not there
	RefusedExpired   Refusal = "expired"
	RefusedLifetime  Refusal = "valid-too-long"
	RefusedReplay    Refusal = "replayed"
	RefusedMalformed Refusal = "malformed"
)

// Why something signed is refused, beside what Open and Command.Validate give.
var (
	ErrOldRevision = errors.New("is older than what is in force")
	ErrNotAsSigned = errors.New("is not what the manifest names")
	ErrMissing     = errors.New("is not there, though the manifest names it")
	ErrReplayed    = errors.New("was seen before")
)

// RefusalOf gives the reason in an error; "" when it is no refusal.
func RefusalOf(err error) Refusal {
	for _, known := range []struct {
		err    error
		reason Refusal
	}{
		{ErrUnsigned, RefusedUnsigned}, {ErrUnknownKey, RefusedKey}, {ErrBadSignature, RefusedSignature},
		{ErrOtherDevice, RefusedDevice}, {ErrOldRevision, RefusedRevision}, {ErrOldKeySet, RefusedRevision},
		{ErrNotAsSigned, RefusedContent}, {ErrMissing, RefusedMissing}, {ErrExpired, RefusedExpired},
		{ErrTooLong, RefusedLifetime}, {ErrReplayed, RefusedReplay}, {ErrMalformed, RefusedMalformed},
	} {
		if errors.Is(err, known.err) {
			return known.reason
		}
	}
	return ""
}
