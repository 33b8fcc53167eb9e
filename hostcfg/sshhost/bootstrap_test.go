package sshhost

import (
	"strings"
	"testing"
)

// TestBootstrapTravelsThroughAnyLoginShell: in single quotes, csh and fish
// give a meaning to what these texts must not have.
func TestBootstrapTravelsThroughAnyLoginShell(t *testing.T) {
	for name, text := range map[string]string{"plain": bootstrap, "terminal": ptyBootstrap} {
		command := bootstrapCommand(text, newMarker())
		inner, ok := strings.CutPrefix(command, "sh -c '")
		inner, ok2 := strings.CutSuffix(inner, "'")
		if !ok || !ok2 {
			t.Fatalf("%s: %s", name, command)
		}
		for _, bad := range []string{"'", "!", "\n", `\\`, "@"} {
			if strings.Contains(inner, bad) {
				t.Errorf("%s has %q in it: %s", name, bad, inner)
			}
		}
		if len(command) > 1500 {
			t.Errorf("%s: %d bytes; old shells have limits", name, len(command))
		}
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{"": "''", "a b": "'a b'", "it's": `'it'\''s'`} {
		if got := quote(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	if s := secret("hunter2"); s.String() != "[redacted]" || s.GoString() != "[redacted]" {
		t.Error("a secret prints")
	}
}

func TestRefusalOfSudo(t *testing.T) {
	for said, want := range map[string]string{
		"sudo: a password is required":                                "needs a password",
		"sudo: interactive authentication is required":                "needs a password",
		"sudo: sorry, you must have a tty to run sudo":                "needs a terminal",
		"sh: 1: sudo: not found":                                      "not installed",
		"ask 127":                                                     "not installed",
		"bob is not in the sudoers file.":                             "may not use sudo",
		"Sorry, user bob may not run sudo on pi.":                     "may not use sudo",
		"Sorry, user bob is not allowed to execute '/bin/sh' as root": "may not use sudo",
		"sudo: /etc/sudoers is world writable":                        "sudo refused",
	} {
		if err := refusal(said); !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", said, err, want)
		}
	}
}
