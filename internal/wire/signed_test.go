package wire

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestOpenRefusesWhatWasTampered(t *testing.T) {
	key := testKey()
	pinned := []ed25519.PublicKey{key.Public().(ed25519.PublicKey)}
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, ed25519.SeedSize))
	sealed, err := Seal(KindManifest, Manifest{SchemaVersion: 1, Device: "pi-1", Revision: 1}, key)
	if err != nil {
		t.Fatal(err)
	}
	var m Manifest
	if err := Open(KindManifest, sealed, pinned, &m); err != nil || m.Device != "pi-1" {
		t.Fatalf("what was sealed does not open: %v", err)
	}
	edit := func(change func(*Envelope)) []byte {
		var e Envelope
		if err := json.Unmarshal(sealed, &e); err != nil {
			t.Fatal(err)
		}
		change(&e)
		data, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	foreign, err := Seal(KindManifest, m, other)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		kind Kind
		data []byte
		want error
	}{
		"another kind":      {KindCommand, sealed, ErrBadSignature},
		"payload edited":    {KindManifest, edit(func(e *Envelope) { e.Payload = bytes.Replace(e.Payload, []byte("pi-1"), []byte("pi-2"), 1) }), ErrBadSignature},
		"payload cut":       {KindManifest, edit(func(e *Envelope) { e.Payload = e.Payload[:len(e.Payload)-1] }), ErrBadSignature},
		"signature flipped": {KindManifest, edit(func(e *Envelope) { e.Signature[0] ^= 1 }), ErrBadSignature},
		"signature short":   {KindManifest, edit(func(e *Envelope) { e.Signature = e.Signature[:10] }), ErrBadSignature},
		"no signature":      {KindManifest, edit(func(e *Envelope) { e.Signature = nil }), ErrUnsigned},
		"no envelope":       {KindManifest, []byte(`{"device":"pi-1","revision":9}`), ErrUnsigned},
		"no JSON":           {KindManifest, []byte("x"), ErrUnsigned},
		"empty":             {KindManifest, nil, ErrUnsigned},
		"another key":       {KindManifest, foreign, ErrUnknownKey},
		"key id claimed":    {KindManifest, bytes.Replace(foreign, []byte(KeyID(other.Public().(ed25519.PublicKey))), []byte(KeyID(pinned[0])), 1), ErrBadSignature},
	} {
		t.Run(name, func(t *testing.T) {
			got := Manifest{Device: "untouched"}
			if err := Open(tc.kind, tc.data, pinned, &got); !errors.Is(err, tc.want) {
				t.Errorf("error is %v, not %v", err, tc.want)
			}
			if got.Device != "untouched" {
				t.Errorf("the payload was decoded all the same: %+v", got)
			}
		})
	}
}

func TestManifestValidate(t *testing.T) {
	good := Manifest{Device: "pi-1", Revision: 1, Deployments: []ManifestEntry{{Name: "a", SHA256: Hash(nil)}}}
	if err := good.Validate("pi-1"); err != nil {
		t.Error(err)
	}
	bad := Manifest{Device: "pi-1", Revision: 1, Deployments: []ManifestEntry{{Name: "a", SHA256: "x"}, {Name: "a", SHA256: Hash(nil)}, {Name: "B", SHA256: Hash(nil)}}}
	err := bad.Validate("pi-1")
	for _, want := range []string{`"x" is no SHA-256`, "listed twice", `deployment name "B"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
	if good.Validate("pi-2") == nil {
		t.Error("a manifest for another device was accepted")
	}
	if (&Manifest{Device: "pi-1"}).Validate("pi-1") == nil {
		t.Error("a manifest without a revision was accepted")
	}
}

func TestCommandValidate(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	good := Command{Device: "pi-1", Verb: VerbPing, Nonce: "abcdefgh01234567", Expires: now.Add(time.Minute)}
	if err := good.Validate("pi-1", VerbPing, now); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change func(*Command)
		want   error
	}{
		"another device":  {func(c *Command) { c.Device = "pi-2" }, ErrOtherDevice},
		"another verb":    {func(c *Command) { c.Verb = "exec" }, ErrMalformed},
		"expired":         {func(c *Command) { c.Expires = now }, ErrExpired},
		"no expiry":       {func(c *Command) { c.Expires = time.Time{} }, ErrExpired},
		"valid too long":  {func(c *Command) { c.Expires = now.Add(time.Hour) }, ErrTooLong},
		"no nonce":        {func(c *Command) { c.Nonce = "" }, ErrMalformed},
		"nonce of tokens": {func(c *Command) { c.Nonce = "abcdefgh.01234567" }, ErrMalformed},
	} {
		c := good
		tc.change(&c)
		if err := c.Validate("pi-1", VerbPing, now); !errors.Is(err, tc.want) {
			t.Errorf("%s: error is %v, not %v", name, err, tc.want)
		}
	}
}

func TestParsePinnedKeys(t *testing.T) {
	for _, bad := range []string{``, `{}`, `{"keys":[]}`, `{"keys":["AAAA"]}`} {
		if _, err := ParsePinnedKeys([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
