package session

import (
	"strings"
	"testing"
)

func TestSealedIsForOnePurpose(t *testing.T) {
	old, current := make([]byte, KeyBytes), []byte(strings.Repeat("k", KeyBytes))
	before, err := newSealer([][]byte{old})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := before.seal(forSession, kept{Name: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	var k kept
	if err := before.open(forSignIn, sealed, &k); err == nil {
		t.Error("a session opens as a sign-in")
	}
	after, err := newSealer([][]byte{current, old})
	if err != nil {
		t.Fatal(err)
	}
	if err := after.open(forSession, sealed, &k); err != nil || k.Name != "ada" {
		t.Errorf("sealed with the key before: %v", err)
	}
	resealed, err := after.seal(forSession, k)
	if err != nil {
		t.Fatal(err)
	}
	if err := before.open(forSession, resealed, &k); err == nil {
		t.Error("the old key opens what the new one sealed")
	}
	for _, bad := range []string{"", "AAAA", sealed[1:], strings.ToUpper(sealed), sealed + "A"} {
		if err := after.open(forSession, bad, &k); err == nil {
			t.Errorf("%.20q… opens", bad)
		}
	}
	if _, err := newSealer([][]byte{{1, 2, 3}}); err == nil {
		t.Error("a short key is taken")
	}
}

func TestLocalPath(t *testing.T) {
	for in, want := range map[string]string{
		"/": "/", "/devices?selector=a%3Db": "/devices?selector=a%3Db", "": "/", "devices": "/", "//evil.example": "/", "/\\evil.example": "/",
		"https://evil.example/": "/", "/auth/signin?to=/": "/", "javascript:alert(1)": "/", "/a\nb": "/", "/%2f/evil": "/%2f/evil",
	} {
		if got := LocalPath(in); got != want {
			t.Errorf("%q leads to %q, not %q", in, got, want)
		}
	}
}

func TestTokensDoNotShow(t *testing.T) {
	if s := Token("secret").String() + Secret("secret").GoString(); strings.Contains(s, "secret") {
		t.Error(s)
	}
}
