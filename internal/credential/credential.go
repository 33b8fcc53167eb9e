// Package credential is how a program of the fleet proves who it is to NATS.
// It owns the sources of that proof, which agent, operator, callout and
// dashboard share; each has its own identity and its own secret. It does not
// connect, and it does not decide what an identity may do (internal/callout).
package credential

import (
	"context"
	"log/slog"
	"time"
)

// Secret is a string that must never be shown: every way of printing it gives
// "[redacted]".
type Secret string

const redacted = "[redacted]"

func (Secret) String() string { return redacted }

// GoString covers %#v.
func (Secret) GoString() string { return redacted }

// LogValue covers slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText covers JSON and everything else that encodes text.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Reveal gives the secret itself, for the one place that sends it.
func (s Secret) Reveal() string { return string(s) }

// Credential is what one connection presents.
type Credential struct {
	User     string
	Password Secret
	Token    Secret    // a bearer token, instead of User and Password
	Expires  time.Time // zero when it does not expire
	Refresh  time.Time // from when on the source has a fresh one; zero for never
}

// Source gives a credential that is valid now. It is asked at every connect
// and reconnect, so that a connection after an outage presents a fresh one.
type Source interface {
	Credential(ctx context.Context) (Credential, error)
}

// Refusable is a Source that wants to know when its credential was not taken:
// a machine that slept does not notice by its clock that a token has ended.
type Refusable interface {
	Refused()
}
