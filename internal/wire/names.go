package wire

import (
	"fmt"
	"strings"
)

// MaxNameLength is the longest device id or deployment name, in bytes: a label
// of RFC 1123, so that it fits a host name, a Kubernetes name and a label.
const MaxNameLength = 63

// NameError says what is wrong with a device id or a deployment name.
type NameError struct {
	Kind   string // "device id" or "deployment name"
	Name   string
	Reason string
}

func (e *NameError) Error() string {
	return fmt.Sprintf("%s %q %s", e.Kind, e.Name, e.Reason)
}

// PlayedDevices begins the ids of devices that a load test plays. They have
// pre-shared keys also where no real device may.
const PlayedDevices = "bench-"

// ValidateDeviceID accepts a label of RFC 1123 (section 2.1), lower case only:
// 1 to 63 of a-z, 0-9 and "-", with a letter or digit at both ends. Such an id
// is one NATS token, so it can neither contain a separator nor a wildcard.
// Every entry point uses this function; none has a rule of its own.
func ValidateDeviceID(id string) error { return validateName("device id", id) }

// ValidateDeploymentName applies the rule of ValidateDeviceID to the name of a
// Deployment, which is the second token of a desired-state key.
func ValidateDeploymentName(name string) error { return validateName("deployment name", name) }

func validateName(kind, name string) error {
	fail := func(format string, args ...any) error {
		return &NameError{Kind: kind, Name: clip(name, 80), Reason: fmt.Sprintf(format, args...)}
	}
	switch {
	case name == "":
		return fail("is empty")
	case len(name) > MaxNameLength:
		return fail("has %d characters; the most is %d", len(name), MaxNameLength)
	}
	for i, r := range name {
		if !isNameRune(r) {
			return fail("has %q at position %d; allowed are a-z, 0-9 and -", r, i+1)
		}
	}
	if strings.HasPrefix(name, "-") || strings.HasSuffix(name, "-") {
		return fail("starts or ends with -; it must start and end with a letter or digit")
	}
	return nil
}

func isNameRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-'
}

// clip shortens s to at most n bytes without cutting a rune, marking the cut.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	const mark = "…"
	cut := n - len(mark)
	for cut > 0 && s[cut]&0xC0 == 0x80 {
		cut--
	}
	return s[:cut] + mark
}
