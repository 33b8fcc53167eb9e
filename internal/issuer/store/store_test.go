package store_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/issuer/store"
)

func open(t *testing.T, dir string, now func() time.Time) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), dir, now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func privateDir(t *testing.T) string { return filepath.Join(t.TempDir(), "private") }

func TestNewerSchemaIsRefused(t *testing.T) {
	dir := privateDir(t)
	s, err := store.Open(t.Context(), dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, "issuer.db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), "PRAGMA user_version = 1000"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), dir, time.Now); err == nil || !strings.Contains(err.Error(), "newer") {
		t.Errorf("want a refusal, got %v", err)
	}
}

func TestSweep(t *testing.T) {
	now := time.Now()
	s := open(t, privateDir(t), func() time.Time { return now })
	ctx := t.Context()
	user, err := s.AddUser(ctx, store.User{Username: "alice", Kind: store.Human, Active: true})
	if err != nil {
		t.Fatal(err)
	}
	for name, life := range map[string]time.Duration{"short": time.Minute, "long": time.Hour} {
		end := now.Add(life)
		err := errors.Join(
			s.AddAuthRequest(ctx, name, []byte("{}"), end),
			s.AddDeviceCode(ctx, name, store.DeviceCode{UserCode: name, Client: "c", Expires: end}, "", 10),
			s.AddRefreshToken(ctx, name, "", store.RefreshToken{Family: name, Client: "c", User: user, Expires: end}),
			s.Revoke(ctx, "token "+name, end),
		)
		if err != nil {
			t.Fatal(err)
		}
	}
	now = now.Add(10 * time.Minute)
	if err := s.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	there := func(name string) [4]bool {
		t.Helper()
		_, request := s.AuthRequest(ctx, name)
		_, device := s.PollDevice(ctx, "c", name, 0)
		_, refresh := s.LookupRefreshToken(ctx, name)
		revoked, err := s.Revoked(ctx, "token "+name)
		if err != nil {
			t.Fatal(err)
		}
		return [4]bool{request == nil, device == nil, refresh == nil, revoked}
	}
	if got := there("short"); got != [4]bool{} {
		t.Errorf("what expired is still there: %v", got)
	}
	if got := there("long"); got != [4]bool{true, true, true, true} {
		t.Errorf("what had not expired is gone: %v", got)
	}
}

func TestDeviceCodesAreBounded(t *testing.T) {
	s := open(t, privateDir(t), time.Now)
	add := func(code string) error {
		return s.AddDeviceCode(t.Context(), code, store.DeviceCode{UserCode: code, Client: "c", Expires: time.Now().Add(time.Hour)}, "", 2)
	}
	if err := errors.Join(add("a"), add("b")); err != nil {
		t.Fatal(err)
	}
	if err := add("c"); !errors.Is(err, store.ErrTooMany) {
		t.Errorf("a third of two: %v", err)
	}
}

// Two processes, as the server and `fleet-server users` are, write at once.
func TestTwoWriters(t *testing.T) {
	dir := privateDir(t)
	stores := [2]*store.Store{open(t, dir, time.Now), open(t, dir, time.Now)}
	const each = 25
	var wg sync.WaitGroup
	for i, s := range stores {
		wg.Go(func() {
			for n := range each {
				name := string(rune('a'+i)) + strings.Repeat("x", n)
				if _, err := s.AddUser(context.WithoutCancel(t.Context()), store.User{Username: name, Kind: store.Human, Active: true}); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	wg.Wait()
	users, err := stores[0].Users(t.Context())
	if err != nil || len(users) != 2*each {
		t.Errorf("%d users, %v", len(users), err)
	}
	if _, err := stores[1].AddUser(t.Context(), store.User{Username: "A", Kind: store.Human}); !errors.Is(err, store.ErrExists) {
		t.Errorf("a name in capitals is another name: %v", err)
	}
}

// A key that is retired signs nothing and stays as long as it was asked to.
func TestSigningKeysRetire(t *testing.T) {
	now := time.Now()
	s := open(t, privateDir(t), func() time.Time { return now })
	made := 0
	keys := func() []store.SigningKey {
		t.Helper()
		keys, err := s.SigningKeys(t.Context(), 24*time.Hour, time.Hour, func() (store.SigningKey, error) {
			made++
			return store.SigningKey{ID: store.NewID(), Private: []byte{1}}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
	first := keys()
	if again := keys(); made != 1 || len(again) != 1 || again[0].ID != first[0].ID {
		t.Fatalf("%d keys made, %v", made, again)
	}
	now = now.Add(25 * time.Hour)
	both := keys()
	if len(both) != 2 || both[1].ID != first[0].ID || !both[0].Retired.IsZero() || both[1].Retired.IsZero() {
		t.Fatalf("after a day: %+v", both)
	}
	now = now.Add(2 * time.Hour)
	if left := keys(); len(left) != 1 || left[0].ID != both[0].ID {
		t.Errorf("after two hours more: %+v", left)
	}
}
