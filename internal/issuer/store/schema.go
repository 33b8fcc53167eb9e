package store

import (
	"context"
	"database/sql"
	"fmt"
)

// migrations are run in order and never edited: the database of an older
// fleet-server has the first ones behind it. Times are milliseconds since 1970,
// 0 for none; lists are JSON.
var migrations = []string{`
CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE signing_keys (
	id TEXT PRIMARY KEY, private BLOB NOT NULL, created INTEGER NOT NULL, retired INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE projects (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created INTEGER NOT NULL) STRICT;
CREATE TABLE roles (
	project TEXT NOT NULL REFERENCES projects(id) ON DELETE CASCADE,
	key TEXT NOT NULL, display TEXT NOT NULL, grp TEXT NOT NULL, created INTEGER NOT NULL,
	PRIMARY KEY (project, key)
) STRICT;
CREATE TABLE apps (
	id TEXT PRIMARY KEY, project TEXT NOT NULL REFERENCES projects(id) ON DELETE CASCADE,
	name TEXT NOT NULL, kind TEXT NOT NULL, client_id TEXT NOT NULL UNIQUE, secret_hash TEXT NOT NULL,
	config TEXT NOT NULL, created INTEGER NOT NULL,
	UNIQUE (project, name)
) STRICT;
CREATE TABLE users (
	id TEXT PRIMARY KEY, username TEXT NOT NULL UNIQUE COLLATE NOCASE, kind TEXT NOT NULL,
	name TEXT NOT NULL, description TEXT NOT NULL, password TEXT NOT NULL,
	active INTEGER NOT NULL, created INTEGER NOT NULL
) STRICT;
CREATE TABLE grants (
	id TEXT PRIMARY KEY, user TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE,
	project TEXT NOT NULL REFERENCES projects(id) ON DELETE CASCADE,
	roles TEXT NOT NULL, created INTEGER NOT NULL,
	UNIQUE (user, project)
) STRICT;
CREATE TABLE machine_keys (
	id TEXT PRIMARY KEY, user TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE,
	public BLOB NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL
) STRICT;
CREATE INDEX machine_keys_user ON machine_keys(user);
CREATE TABLE pats (
	id TEXT PRIMARY KEY, user TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE,
	hash TEXT NOT NULL UNIQUE, created INTEGER NOT NULL, expires INTEGER NOT NULL
) STRICT;
CREATE TABLE auth_requests (
	id TEXT PRIMARY KEY, request TEXT NOT NULL, user TEXT NOT NULL DEFAULT '', auth_time INTEGER NOT NULL DEFAULT 0,
	browser TEXT NOT NULL DEFAULT '', code TEXT UNIQUE, used INTEGER NOT NULL DEFAULT 0, expires INTEGER NOT NULL
) STRICT;
CREATE INDEX auth_requests_expires ON auth_requests(expires);
CREATE TABLE device_codes (
	code TEXT PRIMARY KEY, user_code TEXT NOT NULL UNIQUE, client TEXT NOT NULL, scopes TEXT NOT NULL,
	state TEXT NOT NULL, user TEXT NOT NULL DEFAULT '', auth_time INTEGER NOT NULL DEFAULT 0,
	polled INTEGER NOT NULL DEFAULT 0, expires INTEGER NOT NULL
) STRICT;
CREATE INDEX device_codes_expires ON device_codes(expires);
CREATE TABLE refresh_tokens (
	hash TEXT PRIMARY KEY, family TEXT NOT NULL, client TEXT NOT NULL,
	user TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE,
	scopes TEXT NOT NULL, audience TEXT NOT NULL, amr TEXT NOT NULL, auth_time INTEGER NOT NULL,
	used INTEGER NOT NULL DEFAULT 0, expires INTEGER NOT NULL
) STRICT;
CREATE INDEX refresh_tokens_user ON refresh_tokens(user);
CREATE INDEX refresh_tokens_expires ON refresh_tokens(expires);
CREATE TABLE revoked (id TEXT PRIMARY KEY, expires INTEGER NOT NULL) STRICT;
`}

func (s *Store) migrate(ctx context.Context) error {
	return s.tx(ctx, func(tx *sql.Tx) error {
		var done int
		if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&done); err != nil {
			return err
		}
		if done > len(migrations) {
			return fmt.Errorf("it was written by a newer fleet-server (schema %d, this one knows %d)", done, len(migrations))
		}
		for _, migration := range migrations[done:] {
			if _, err := tx.ExecContext(ctx, migration); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", len(migrations)))
		return err
	})
}

// Sweep removes what has expired, and is safe to run at any time. Used codes
// and tokens stay until they expire, since their second use has to be noticed.
func (s *Store) Sweep(ctx context.Context) error {
	now := millis(s.now())
	return s.tx(ctx, func(tx *sql.Tx) error {
		for _, table := range []string{"auth_requests", "device_codes", "refresh_tokens", "revoked"} {
			if _, err := tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE expires < ?", now); err != nil {
				return fmt.Errorf("sweep %s: %w", table, err)
			}
		}
		return nil
	})
}

// Setting reads a value that was once made and never changes, or makes it.
func (s *Store) Setting(ctx context.Context, key string, create func() string) (value string, err error) {
	err = s.tx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "INSERT INTO settings VALUES (?, ?) ON CONFLICT DO NOTHING", key, create()); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, "SELECT value FROM settings WHERE key = ?", key).Scan(&value)
	})
	if err != nil {
		return "", fmt.Errorf("read setting %s: %w", key, err)
	}
	return value, nil
}
