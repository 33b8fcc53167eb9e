// Package store keeps what the issuer must not forget: people, machines and
// their keys, roles, clients, codes and refresh tokens, signing keys. It owns the
// SQLite file and what has to happen in one transaction; what tokens say and
// who may ask for them is the issuer's affair. Secrets that only have to be
// recognised (codes, refresh tokens, access tokens of machines) are kept as hashes.
package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite": SQLite in Go, so that fleet-server stays static

	"github.com/nationtech/fleetctl/internal/secretfile"
)

// Errors that callers tell apart.
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("already exists")
	ErrReused   = errors.New("used before")
	ErrExpired  = errors.New("expired")
)

const (
	fileName = "issuer.db"
	readers  = 4
)

// Store is an open database. Several processes may have the same one open
// (the server, and `fleet-server users`).
type Store struct {
	write *sql.DB // one connection: SQLite has one writer at a time
	read  *sql.DB
	now   func() time.Time
}

// Open opens the database in dir, which it makes when there is none, and brings
// it up to the newest schema.
func Open(ctx context.Context, dir string, now func() time.Time) (*Store, error) {
	if err := secretfile.EnsureDir(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, fileName)
	// SQLite gives its -wal and -shm files the mode of the database.
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the issuer's database: %w", err)
	}
	if err := file.Close(); err != nil {
		return nil, fmt.Errorf("open the issuer's database: %w", err)
	}
	s := &Store{now: now}
	if s.write, err = open(path, 1, "immediate"); err != nil {
		return nil, err
	}
	if s.read, err = open(path, readers, "deferred"); err != nil {
		return nil, errors.Join(err, s.write.Close())
	}
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("bring %s up to date: %w", path, err), s.Close())
	}
	return s, nil
}

func open(path string, connections int, lock string) (*sql.DB, error) {
	options := url.Values{
		// FULL: a refresh token that was used must be so after a power cut too.
		"_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)"},
		"_txlock": {lock},
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: options.Encode()}).String())
	if err != nil {
		return nil, fmt.Errorf("open the issuer's database: %w", err)
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

// Close closes the database.
func (s *Store) Close() error { return errors.Join(s.read.Close(), s.write.Close()) }

// Ping says whether the database answers.
func (s *Store) Ping(ctx context.Context) error { return s.read.PingContext(ctx) }

// tx runs fn in a transaction that holds the write lock from its start, so
// that what fn reads is still so when it writes.
func (s *Store) tx(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func (s *Store) exec(ctx context.Context, query string, args ...any) (int64, error) {
	res, err := s.write.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// mustChange is exec for a statement that has to find its row.
func (s *Store) mustChange(ctx context.Context, query string, args ...any) error {
	n, err := s.exec(ctx, query, args...)
	if err == nil && n == 0 {
		return ErrNotFound
	}
	return err
}

// Hash is how a secret is kept that is random and long enough not to be guessed.
func Hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Secret makes one: 256 bits, safe in URLs.
func Secret() string {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(raw)
}

// NewID makes an id as Zitadel's look: 18 digits.
func NewID() string {
	const lowest = 100_000_000_000_000_000
	raw := make([]byte, 8)
	_, _ = rand.Read(raw) // never fails (crypto/rand)
	return strconv.FormatUint(lowest+binary.BigEndian.Uint64(raw)%(8*lowest), 10)
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// notFound names a missing row as callers know it.
func notFound(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	return err
}
