package join

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
)

func example() (authority []byte, r Request, receipt Receipt, nonce []byte) {
	nonce = bytes.Repeat([]byte{7}, NonceBytes)
	return []byte("der"), Request{DeviceID: "pi", MachineID: "m", IdentityKey: "pem", SealingKey: make([]byte, 32), Commitment: Commit(nonce)},
		Receipt{ID: "1", ServerNonce: bytes.Repeat([]byte{9}, NonceBytes)}, nonce
}

// Whatever somebody in between changes, the code is another.
func TestCodeCoversEverything(t *testing.T) {
	authority, r, receipt, nonce := example()
	code := Code(authority, r, receipt, nonce)
	if !regexp.MustCompile(`^[B-Z]{4}-[B-Z]{4}$`).MatchString(code) || code != Code(authority, r, receipt, nonce) {
		t.Errorf("code %q", code)
	}
	seen := map[string]string{code: "nothing"}
	for what, change := range map[string]func(){
		"authority":    func() { authority = []byte("other") },
		"device":       func() { r.DeviceID = "pi2" },
		"machine":      func() { r.MachineID = "m2" },
		"identity":     func() { r.IdentityKey = "pem2" },
		"sealing":      func() { r.SealingKey = bytes.Repeat([]byte{1}, 32) },
		"commitment":   func() { r.Commitment = Commit([]byte("x")) },
		"request":      func() { receipt.ID = "2" },
		"server nonce": func() { receipt.ServerNonce = make([]byte, NonceBytes) },
		"nonce":        func() { nonce = make([]byte, NonceBytes) },
		"a boundary":   func() { r.DeviceID, r.MachineID = "p", "im" },
	} {
		authority, r, receipt, nonce = example()
		change()
		got := Code(authority, r, receipt, nonce)
		if other, dup := seen[got]; dup {
			t.Errorf("changing %s gives the same code as changing %s", what, other)
		}
		seen[got] = what
	}
}

func TestCommitment(t *testing.T) {
	_, r, _, nonce := example()
	if !Opens(r.Commitment, nonce) || Opens(r.Commitment, make([]byte, NonceBytes)) || Opens(Commit(nil), nil) {
		t.Error("a commitment opens to something else, or not at all")
	}
}

func TestSame(t *testing.T) {
	for typed, want := range map[string]bool{"BCDF-GHJK": true, "bcdf ghjk": true, "bcdfghjk": true, "BCDF-GHJ": false, "": false, "BCDF-GHJKX": false, "1BCDFGHJK": false} {
		if Same("BCDF-GHJK", typed) != want {
			t.Errorf("%q: want %v", typed, want)
		}
	}
}

func TestValidate(t *testing.T) {
	_, good, _, _ := example()
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Request){
		"id":         func(r *Request) { r.DeviceID = "a.b" },
		"commitment": func(r *Request) { r.Commitment = nil },
		"sealing":    func(r *Request) { r.SealingKey = nil },
		"identity":   func(r *Request) { r.IdentityKey = strings.Repeat("x", 5000) },
		"facts":      func(r *Request) { r.Facts.Model = strings.Repeat("x", 300) },
	} {
		r := good
		spoil(&r)
		if r.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
