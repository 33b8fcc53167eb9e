package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"
)

// RefreshToken is one link of a family: each is used once and followed by the
// next, so that a second use betrays a copy.
type RefreshToken struct {
	Family   string
	Client   string
	User     string
	Scopes   []string
	Audience []string
	AMR      []string
	AuthTime time.Time
	Expires  time.Time
}

func scanRefresh(row scanner) (r RefreshToken, used bool, err error) {
	var scopes, audience, amr string
	var authTime, expires int64
	if err := row.Scan(&r.Family, &r.Client, &r.User, &scopes, &audience, &amr, &authTime, &used, &expires); err != nil {
		return r, false, notFound(err)
	}
	r.AuthTime, r.Expires = fromMillis(authTime), fromMillis(expires)
	for _, field := range []struct {
		from string
		to   *[]string
	}{{scopes, &r.Scopes}, {audience, &r.Audience}, {amr, &r.AMR}} {
		if err := json.Unmarshal([]byte(field.from), field.to); err != nil {
			return r, used, err
		}
	}
	return r, used, nil
}

const selectRefresh = "SELECT family, client, user, scopes, audience, amr, auth_time, used, expires FROM refresh_tokens WHERE hash = ?"

// RefreshToken reads a token that can still be used. ErrReused: it was used
// before, and its whole family has been revoked for that, until keep.
func (s *Store) RefreshToken(ctx context.Context, token string, keep time.Time) (RefreshToken, error) {
	r, used, err := scanRefresh(s.read.QueryRowContext(ctx, selectRefresh, Hash(token)))
	if err != nil {
		return r, err
	}
	if used {
		err := s.tx(ctx, func(tx *sql.Tx) error { return revoke(ctx, tx, r.Family, keep) })
		if err != nil {
			return r, fmt.Errorf("revoke the family of a reused refresh token: %w", err)
		}
		return r, ErrReused
	}
	if !s.now().Before(r.Expires) {
		return r, ErrExpired
	}
	switch gone, err := s.Revoked(ctx, r.Family); {
	case err != nil:
		return r, err
	case gone:
		return r, ErrNotFound
	}
	return r, nil
}

// LookupRefreshToken reads a token in whatever state it is.
func (s *Store) LookupRefreshToken(ctx context.Context, token string) (RefreshToken, error) {
	r, _, err := scanRefresh(s.read.QueryRowContext(ctx, selectRefresh, Hash(token)))
	return r, err
}

// AddRefreshToken starts a family, or, with a previous token, uses that and
// adds the next. Of two that use one token at once, one is given ErrReused and
// the family is revoked.
func (s *Store) AddRefreshToken(ctx context.Context, token, previous string, r RefreshToken) error {
	reused := false
	err := s.tx(ctx, func(tx *sql.Tx) error {
		if previous != "" {
			res, err := tx.ExecContext(ctx, "UPDATE refresh_tokens SET used = 1 WHERE hash = ? AND used = 0", Hash(previous))
			if err != nil {
				return err
			}
			if n, err := res.RowsAffected(); err != nil {
				return err
			} else if n == 0 {
				reused = true
				return revoke(ctx, tx, r.Family, r.Expires)
			}
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO refresh_tokens VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?)",
			Hash(token), r.Family, r.Client, r.User, toJSON(r.Scopes), toJSON(r.Audience), toJSON(r.AMR), millis(r.AuthTime), millis(r.Expires))
		return exists(err)
	})
	if err != nil {
		return fmt.Errorf("store refresh token: %w", err)
	}
	if reused {
		return ErrReused
	}
	return nil
}

// Revoke makes a token id or a family worthless until it would have expired.
func (s *Store) Revoke(ctx context.Context, id string, until time.Time) error {
	return s.tx(ctx, func(tx *sql.Tx) error { return revoke(ctx, tx, id, until) })
}

// Revoked says whether any of ids has been revoked.
func (s *Store) Revoked(ctx context.Context, ids ...string) (bool, error) {
	var n int
	err := s.read.QueryRowContext(ctx, "SELECT count(*) FROM revoked WHERE id IN (SELECT value FROM json_each(?))", toJSON(ids)).Scan(&n)
	return n > 0, err
}

// RevokeSessions ends all sessions of a user with a client.
func (s *Store) RevokeSessions(ctx context.Context, user, client string) error {
	_, err := s.exec(ctx, "INSERT INTO revoked SELECT family, max(expires) FROM refresh_tokens WHERE user = ? AND client = ? GROUP BY family ON CONFLICT DO NOTHING", user, client)
	return err
}

func revoke(ctx context.Context, tx *sql.Tx, id string, until time.Time) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO revoked VALUES (?, ?) ON CONFLICT DO UPDATE SET expires = max(expires, excluded.expires)", id, millis(until))
	return err
}

func revokeUser(ctx context.Context, tx *sql.Tx, user string) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO revoked SELECT family, max(expires) FROM refresh_tokens WHERE user = ? GROUP BY family ON CONFLICT DO NOTHING", user)
	return err
}
