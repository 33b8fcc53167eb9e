package callout

import (
	"bytes"
	"testing"

	"github.com/nats-io/nkeys"
)

// What we seal nkeys opens, and the other way round; nobody else does.
func TestBoxes(t *testing.T) {
	must := func(pair nkeys.KeyPair, err error) (nkeys.KeyPair, string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		public, err := pair.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		return pair, public
	}
	ours, ourKey := must(nkeys.CreateCurveKeys())
	b, err := newBoxes(ours)
	if err != nil {
		t.Fatal(err)
	}
	said := []byte("let me in")
	for range maxPeers + 2 { // also after the cache was emptied
		server, serverKey := must(nkeys.CreateCurveKeys())
		asked, err := server.Seal(said, ourKey)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := b.open(asked, serverKey); err != nil || !bytes.Equal(got, said) {
			t.Fatalf("%q, %v", got, err)
		}
		answer, err := b.seal(said, serverKey)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := server.Open(answer, ourKey); err != nil || !bytes.Equal(got, said) {
			t.Fatalf("%q, %v", got, err)
		}
		_, otherKey := must(nkeys.CreateCurveKeys())
		_, account := must(nkeys.CreateAccount())
		for name, bad := range map[string]struct {
			sealed []byte
			from   string
		}{
			"of another server": {asked, otherKey}, "edited": {append(bytes.Clone(asked[:len(asked)-1]), asked[len(asked)-1]^1), serverKey},
			"cut": {asked[:20], serverKey}, "empty": {nil, serverKey}, "another version": {append([]byte("xkv2"), asked[4:]...), serverKey},
			"not a key": {asked, "XNO"}, "another kind of key": {asked, account}, "no key": {asked, ""},
		} {
			if got, err := b.open(bad.sealed, bad.from); err == nil {
				t.Fatalf("%s: opened, %q", name, got)
			}
		}
	}
}

func TestSignerSignsAsItsKey(t *testing.T) {
	pair, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSigner(pair)
	if err != nil {
		t.Fatal(err)
	}
	said := []byte("device pi-1 may")
	signature, err := s.Sign(said)
	if err != nil {
		t.Fatal(err)
	}
	if err := pair.Verify(said, signature); err != nil {
		t.Error(err)
	}
	if want, _ := pair.PublicKey(); s.public != want {
		t.Errorf("it calls itself %s, not %s", s.public, want)
	}
}
