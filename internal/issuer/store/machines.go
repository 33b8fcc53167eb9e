package store

import (
	"context"
	"fmt"
	"time"
)

// MachineKey is the public half of a key that a machine signs with.
type MachineKey struct {
	ID      string
	User    string
	Public  []byte // PKIX, DER
	Created time.Time
	Expires time.Time // zero: never
}

// PAT is a personal access token; the token itself is not kept.
type PAT struct {
	ID      string
	User    string
	Created time.Time
	Expires time.Time // zero: never
}

func scanKey(row scanner) (k MachineKey, err error) {
	var created, expires int64
	err = row.Scan(&k.ID, &k.User, &k.Public, &created, &expires)
	k.Created, k.Expires = fromMillis(created), fromMillis(expires)
	return k, notFound(err)
}

// AddKey registers a machine's public key and returns its id.
func (s *Store) AddKey(ctx context.Context, user string, public []byte, expires time.Time) (string, error) {
	id := NewID()
	_, err := s.exec(ctx, "INSERT INTO machine_keys VALUES (?, ?, ?, ?, ?)", id, user, public, millis(s.now()), millis(expires))
	if err != nil {
		return "", fmt.Errorf("register key: %w", exists(err))
	}
	return id, nil
}

// SigningMachine finds the key with which a machine signs; it fails when key or
// machine are not to be trusted any more.
func (s *Store) SigningMachine(ctx context.Context, user, key string) (MachineKey, error) {
	k, err := scanKey(s.read.QueryRowContext(ctx, `SELECT k.id, k.user, k.public, k.created, k.expires
		FROM machine_keys k JOIN users u ON u.id = k.user
		WHERE k.id = ? AND k.user = ? AND u.kind = ? AND u.active`, key, user, Machine))
	if err == nil && !k.Expires.IsZero() && !s.now().Before(k.Expires) {
		return k, ErrExpired
	}
	return k, err
}

// Keys lists a machine's keys, the oldest first.
func (s *Store) Keys(ctx context.Context, user string) ([]MachineKey, error) {
	return list(ctx, s.read, scanKey, "SELECT id, user, public, created, expires FROM machine_keys WHERE user = ? ORDER BY created, id", user)
}

// DeleteKey removes a key: what it signs is worth nothing from now on.
func (s *Store) DeleteKey(ctx context.Context, user, key string) error {
	return s.mustChange(ctx, "DELETE FROM machine_keys WHERE id = ? AND user = ?", key, user)
}

// AddPAT makes a personal access token and returns its id and the token.
func (s *Store) AddPAT(ctx context.Context, user string, expires time.Time) (id, token string, err error) {
	id, token = NewID(), Secret()
	_, err = s.exec(ctx, "INSERT INTO pats VALUES (?, ?, ?, ?, ?)", id, user, Hash(token), millis(s.now()), millis(expires))
	if err != nil {
		return "", "", fmt.Errorf("make personal access token: %w", exists(err))
	}
	return id, token, nil
}

func scanPAT(row scanner) (p PAT, err error) {
	var created, expires int64
	err = row.Scan(&p.ID, &p.User, &created, &expires)
	p.Created, p.Expires = fromMillis(created), fromMillis(expires)
	return p, notFound(err)
}

// PATUser says whose personal access token this is.
func (s *Store) PATUser(ctx context.Context, token string) (string, error) {
	p, err := scanPAT(s.read.QueryRowContext(ctx, "SELECT id, user, created, expires FROM pats WHERE hash = ?", Hash(token)))
	if err == nil && !p.Expires.IsZero() && !s.now().Before(p.Expires) {
		return "", ErrExpired
	}
	return p.User, err
}

// PATs lists a user's personal access tokens.
func (s *Store) PATs(ctx context.Context, user string) ([]PAT, error) {
	return list(ctx, s.read, scanPAT, "SELECT id, user, created, expires FROM pats WHERE user = ? ORDER BY created, id", user)
}

// DeletePAT removes a personal access token.
func (s *Store) DeletePAT(ctx context.Context, user, id string) error {
	return s.mustChange(ctx, "DELETE FROM pats WHERE id = ? AND user = ?", id, user)
}
