package devicekey

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"reflect"
	"sync"
	"testing"

	"github.com/zitadel/oidc/v3/pkg/client"

	"github.com/nationtech/fleetctl/internal/keyfile"
	"github.com/nationtech/fleetctl/internal/secretfile"
)

func newStore(t *testing.T) Store {
	t.Helper()
	return Store{Dir: t.TempDir(), Owner: secretfile.Owner{UID: os.Getuid(), GID: os.Getgid()}}
}

func must(t *testing.T) func(Public, error) Public {
	return func(p Public, err error) Public {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
}

func assertFiles(t *testing.T, s Store, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{}
	for _, e := range entries {
		got = append(got, e.Name())
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o400 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
}

func TestMakeBindRotate(t *testing.T) {
	s := newStore(t)
	empty := must(t)(s.Show())
	if empty.Identity != nil || empty.Pending != nil || empty.SealingKey != nil {
		t.Fatalf("an empty directory shows %+v", empty)
	}
	made := must(t)(s.Make(false))
	if made.Identity != nil || made.Pending == nil || len(made.SealingKey) != 32 {
		t.Fatalf("after the first run: %+v", made)
	}
	assertFiles(t, s, "identity.key", "sealing.key")
	if again := must(t)(s.Make(false)); !reflect.DeepEqual(again, made) {
		t.Errorf("a second run gave other keys:\n%+v\n%+v", again, made)
	}

	bound := must(t)(s.Bind("11", "22"))
	want := Public{SchemaVersion: 1, Identity: &Identity{PublicKey: made.Pending.PublicKey, KeyID: "22", UserID: "11"}, SealingKey: made.SealingKey}
	if !reflect.DeepEqual(bound, want) {
		t.Errorf("bound: %+v, want %+v", bound, want)
	}
	assertFiles(t, s, "identity.json", "sealing.key")
	for _, again := range []Public{must(t)(s.Bind("11", "22")), must(t)(s.Make(false))} {
		if !reflect.DeepEqual(again, want) {
			t.Errorf("doing it again changed the keys: %+v", again)
		}
	}
	if _, err := s.Bind("11", "23"); err == nil {
		t.Error("bound another key id although nothing was pending")
	}

	rotating := must(t)(s.Make(true))
	if !reflect.DeepEqual(rotating.Identity, want.Identity) || rotating.Pending == nil || rotating.Pending.PublicKey == want.Identity.PublicKey {
		t.Fatalf("a rotation does not leave the key in use alone: %+v", rotating)
	}
	if again := must(t)(s.Make(true)); !reflect.DeepEqual(again, rotating) {
		t.Error("a rotation that goes on made yet another key")
	}
	rotated := must(t)(s.Bind("11", "33"))
	if rotated.Identity.PublicKey != rotating.Pending.PublicKey || !bytes.Equal(rotated.SealingKey, want.SealingKey) {
		t.Errorf("rotated: %+v", rotated)
	}
	assertFiles(t, s, "identity.json", "sealing.key")
}

// A copy of another device's disk gets keys of its own.
func TestReplace(t *testing.T) {
	s := newStore(t)
	must(t)(s.Make(false))
	before := must(t)(s.Bind("11", "22"))
	copied := must(t)(s.Replace())
	if copied.Pending == nil || copied.Pending.PublicKey == before.Identity.PublicKey || bytes.Equal(copied.SealingKey, before.SealingKey) || copied.Identity.KeyID != "22" {
		t.Errorf("replaced: %+v", copied)
	}
	after := must(t)(s.Bind("12", "23"))
	if after.Identity.PublicKey != copied.Pending.PublicKey || !bytes.Equal(after.SealingKey, copied.SealingKey) {
		t.Errorf("bound: %+v", after)
	}
}

// A Bind that was cut off before it removed the pending key.
func TestBindCutOff(t *testing.T) {
	s := newStore(t)
	must(t)(s.Make(false))
	pending, err := os.ReadFile(s.path(pendingName))
	if err != nil {
		t.Fatal(err)
	}
	bound := must(t)(s.Bind("1", "2"))
	if err := os.WriteFile(s.path(pendingName), pending, 0o400); err != nil {
		t.Fatal(err)
	}
	if got := must(t)(s.Show()); !reflect.DeepEqual(got, bound) {
		t.Errorf("the key in use shows as pending: %+v", got)
	}
	if got := must(t)(s.Make(true)); got.Pending == nil || got.Pending.PublicKey == bound.Identity.PublicKey {
		t.Errorf("a rotation took the key in use for a new one: %+v", got)
	}
}

func TestMakeAtOnce(t *testing.T) {
	s := newStore(t)
	got := make([]Public, 4)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			var err error
			if got[i], err = s.Make(false); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, g := range got {
		if !reflect.DeepEqual(g, got[0]) {
			t.Fatalf("runs at once disagree")
		}
	}
	assertFiles(t, s, "identity.key", "sealing.key")
}

// Zitadel's own library signs with what Bind writes.
func TestKeyFileIsZitadels(t *testing.T) {
	s := newStore(t)
	made := must(t)(s.Make(false))
	must(t)(s.Bind("11", "22"))
	data, err := os.ReadFile(s.path(identityName))
	if err != nil {
		t.Fatal(err)
	}
	var theirs struct{ Type, KeyID, Key, UserID string }
	if err := json.Unmarshal(data, &theirs); err != nil {
		t.Fatal(err)
	}
	if theirs.Type != "serviceaccount" || theirs.UserID != "11" || theirs.KeyID != "22" {
		t.Errorf("read as %s of user %s, key %s", theirs.Type, theirs.UserID, theirs.KeyID)
	}
	if _, err := client.NewSignerFromPrivateKeyByte([]byte(theirs.Key), theirs.KeyID); err != nil {
		t.Error(err)
	}
	block, _ := pem.Decode([]byte(made.Pending.PublicKey))
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := keyfile.Read(s.path(identityName))
	if err != nil || !ours.Private.PublicKey.Equal(public.(*rsa.PublicKey)) || ours.Private.N.BitLen() < 2048 {
		t.Errorf("the key file holds another key than was printed, or none: %v", err)
	}
}

// A damaged identity is replaced when asked, never by itself.
func TestDamagedIdentity(t *testing.T) {
	s := newStore(t)
	if err := os.WriteFile(s.path(identityName), []byte("{"), 0o400); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Make(false); err == nil {
		t.Error("a damaged identity was passed over")
	}
	must(t)(s.Make(true))
	if got := must(t)(s.Bind("1", "2")); got.Identity == nil || got.Identity.KeyID != "2" {
		t.Errorf("got %+v", got)
	}
}

func TestSealingKeyOpens(t *testing.T) {
	s := newStore(t)
	if _, err := SealingKeys(s.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a key: %v", err)
	}
	made := must(t)(s.Make(false))
	keys, err := SealingKeys(s.Dir)
	if err != nil || len(keys) != 1 || !bytes.Equal(keys[0].PublicKey().Bytes(), made.SealingKey) {
		t.Errorf("the sealing key is another than was printed: %v", err)
	}
	if err := os.Chmod(s.path(sealingName), 0o444); err != nil {
		t.Fatal(err)
	}
	if _, err := SealingKeys(s.Dir); err == nil {
		t.Error("a key that others can read was taken")
	}
}

// While a sealing key is replaced, what was sealed to either opens, and
// afterwards what was sealed to the one before does.
func TestRotateSealing(t *testing.T) {
	s := newStore(t)
	first := must(t)(s.Make(false)).SealingKey
	opens := func(want ...[]byte) {
		t.Helper()
		keys, err := SealingKeys(s.Dir)
		if err != nil || len(keys) != len(want) {
			t.Fatalf("%d keys, want %d: %v", len(keys), len(want), err)
		}
		for i, key := range keys {
			if !bytes.Equal(key.PublicKey().Bytes(), want[i]) {
				t.Errorf("key %d is another", i)
			}
		}
	}
	if unused := must(t)(s.UseSealing()); !bytes.Equal(unused.SealingKey, first) {
		t.Error("the key was replaced by none")
	}
	made := must(t)(s.MakeSealing())
	if again := must(t)(s.MakeSealing()); !reflect.DeepEqual(again, made) || !bytes.Equal(made.SealingKey, first) {
		t.Errorf("a rotation that goes on: %+v, then %+v", made, again)
	}
	second := made.NextSealingKey
	opens(first, second)
	// As if UseSealing had been cut off between its two steps.
	if err := os.Link(s.path(sealingName), s.path(previousSealingName)); err != nil {
		t.Fatal(err)
	}
	opens(first, second, first)
	used := must(t)(s.UseSealing())
	if !bytes.Equal(used.SealingKey, second) || used.NextSealingKey != nil {
		t.Errorf("in use: %+v", used)
	}
	opens(second, first)
	third := must(t)(s.MakeSealing()).NextSealingKey
	must(t)(s.UseSealing())
	opens(third, second)
	assertFiles(t, s, "identity.key", "sealing.key", "sealing.previous.key")
	if copied := must(t)(s.Replace()); bytes.Equal(copied.SealingKey, third) {
		t.Error("a copy keeps the key")
	}
	assertFiles(t, s, "identity.key", "sealing.key")
}
