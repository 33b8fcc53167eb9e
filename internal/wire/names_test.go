package wire

import (
	"strings"
	"testing"
)

func TestValidateDeviceID(t *testing.T) {
	for _, id := range []string{"a", "0", "pi-1", "a--b", strings.Repeat("a", 63)} {
		if err := ValidateDeviceID(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	refused := map[string]string{
		"":                      "is empty",
		strings.Repeat("a", 64): "64 characters",
		"a.b":                   `'.' at position 2`,
		"*":                     `'*'`,
		">":                     `'>'`,
		"a b":                   `' '`,
		"a\tb":                  `'\t'`,
		"a\n":                   `'\n'`,
		"Pi":                    `'P'`,
		"a_b":                   `'_'`,
		"$SYS":                  `'$'`,
		"-a":                    "starts or ends",
		"a-":                    "starts or ends",
		"р1":                    `'р'`, // Cyrillic er
		"a\x00":                 `'\x00'`,
		"\xff":                  "position 1",
	}
	for id, want := range refused {
		err := ValidateDeviceID(id)
		if err == nil {
			t.Errorf("%q was accepted", id)
			continue
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %q does not say %q", id, err, want)
		}
		if ValidateDeploymentName(id) == nil {
			t.Errorf("deployment name %q was accepted", id)
		}
	}
}

// FuzzValidName: whatever passes is one NATS token and no wildcard.
func FuzzValidName(f *testing.F) {
	for _, seed := range []string{"pi-1", "a.b", "*", ">", "é", "A", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if ValidateDeviceID(s) == nil && (s == "" || len(s) > 63 || strings.ContainsAny(s, ".*> \t\r\n_$/:") || strings.ToLower(s) != s) {
			t.Errorf("%q was accepted", s)
		}
	})
}

func TestKeysAndSubjects(t *testing.T) {
	if d, n, ok := ParseDesiredKey("pi-1.hello"); d != "pi-1" || n != "hello" || !ok {
		t.Errorf("got %q %q %v", d, n, ok)
	}
	if d, n, ok := ParseDesiredKey("pi-1"); d != "pi-1" || n != "" || !ok {
		t.Errorf("got %q %q %v", d, n, ok)
	}
	for _, key := range []string{"", ".", "pi-1.", ".hello", "a.b.c", "*", "a.>"} {
		if _, _, ok := ParseDesiredKey(key); ok {
			t.Errorf("key %q was accepted", key)
		}
	}
	if d, ok := DeviceOfKey(BucketState, StateKey("pi-1")); d != "pi-1" || !ok {
		t.Errorf("got %q %v", d, ok)
	}
	for _, key := range []string{"state.", "state.a.b", "info.pi-1", "state.*"} {
		if _, ok := DeviceOfKey(BucketState, key); ok {
			t.Errorf("state key %q was accepted", key)
		}
	}
	if got := BucketDesired.DirectGetSubject("pi-1"); got != "$JS.API.DIRECT.GET.KV_desired-state.$KV.desired-state.pi-1" {
		t.Error(got)
	}
}

// TestDevicePermissionsNameOnlyTheDevice: no subject of one device's list is
// usable for another's, whatever the ids.
func TestDevicePermissionsNameOnlyTheDevice(t *testing.T) {
	p := DevicePermissions("pi-1")
	for _, subject := range append(p.Publish, p.Subscribe...) {
		tokens := strings.Split(subject, ".")
		own := 0
		for i, token := range tokens {
			if token == "pi-1" {
				own = i
			}
		}
		if own == 0 {
			t.Errorf("%s does not name the device", subject)
		}
		for _, token := range tokens[:own] {
			if token == "*" || token == ">" {
				t.Errorf("%s has a wildcard before the device", subject)
			}
		}
	}
}

func TestClipKeepsRunes(t *testing.T) {
	if got := clip("ééééé", 6); got != "é…" {
		t.Errorf("%q", got)
	}
	if got := ClipMessage(strings.Repeat("x", 2000)); len(got) > MaxMessageBytes {
		t.Errorf("%d bytes", len(got))
	}
}
