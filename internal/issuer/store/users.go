package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Kinds of users.
const (
	Human   = "human"
	Machine = "machine"
)

// User is a person, or a machine such as a device.
type User struct {
	ID          string
	Username    string // unique; letters' case does not count
	Kind        string
	Name        string
	Description string
	Password    string // argon2id, PHC format; "" for machines
	Active      bool
	Created     time.Time
}

// Grant gives a user roles in a project; there is one a user and project.
type Grant struct {
	ID      string
	User    string
	Project string
	Roles   []string
	Created time.Time

	Username string // read only
}

const userColumns = "id, username, kind, name, description, password, active, created"

type scanner interface{ Scan(...any) error }

func scanUser(row scanner) (u User, err error) {
	var created int64
	err = row.Scan(&u.ID, &u.Username, &u.Kind, &u.Name, &u.Description, &u.Password, &u.Active, &created)
	u.Created = fromMillis(created)
	return u, notFound(err)
}

// AddUser stores u under a new id, which it returns.
func (s *Store) AddUser(ctx context.Context, u User) (string, error) {
	u.ID = NewID()
	_, err := s.exec(ctx, "INSERT INTO users ("+userColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		u.ID, u.Username, u.Kind, u.Name, u.Description, u.Password, u.Active, millis(s.now()))
	if err != nil {
		return "", fmt.Errorf("add user %s: %w", u.Username, exists(err))
	}
	return u.ID, nil
}

// User reads a user by id.
func (s *Store) User(ctx context.Context, id string) (User, error) {
	return scanUser(s.read.QueryRowContext(ctx, "SELECT "+userColumns+" FROM users WHERE id = ?", id))
}

// UserByName reads a user by name.
func (s *Store) UserByName(ctx context.Context, username string) (User, error) {
	return scanUser(s.read.QueryRowContext(ctx, "SELECT "+userColumns+" FROM users WHERE username = ?", username))
}

// Users lists all users, the oldest first.
func (s *Store) Users(ctx context.Context) ([]User, error) {
	return list(ctx, s.read, scanUser, "SELECT "+userColumns+" FROM users ORDER BY created, id")
}

// DeleteUser removes a user with its grants, keys and tokens.
func (s *Store) DeleteUser(ctx context.Context, id string) error {
	return s.mustChange(ctx, "DELETE FROM users WHERE id = ?", id)
}

// SetActive switches a user off or on again. Refresh tokens of one that is
// switched off are gone for good.
func (s *Store) SetActive(ctx context.Context, id string, active bool) error {
	return s.tx(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "UPDATE users SET active = ? WHERE id = ?", active, id)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, ErrNotFound)
		}
		if active {
			return nil
		}
		return revokeUser(ctx, tx, id)
	})
}

// SetPassword replaces a person's password, and ends all sessions of the old one.
func (s *Store) SetPassword(ctx context.Context, id, hash string) error {
	return s.tx(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "UPDATE users SET password = ? WHERE id = ? AND kind = ?", hash, id, Human)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, ErrNotFound)
		}
		return revokeUser(ctx, tx, id)
	})
}

func scanGrant(row scanner) (g Grant, err error) {
	var roles string
	var created int64
	if err := row.Scan(&g.ID, &g.User, &g.Project, &roles, &created, &g.Username); err != nil {
		return g, notFound(err)
	}
	g.Created = fromMillis(created)
	return g, json.Unmarshal([]byte(roles), &g.Roles)
}

const selectGrants = "SELECT g.id, g.user, g.project, g.roles, g.created, u.username FROM grants g JOIN users u ON u.id = g.user "

// AddGrant gives a user roles, and refuses when it has a grant of the project.
func (s *Store) AddGrant(ctx context.Context, user, project string, roles []string) (string, error) {
	id := NewID()
	_, err := s.exec(ctx, "INSERT INTO grants VALUES (?, ?, ?, ?, ?)", id, user, project, toJSON(roles), millis(s.now()))
	if err != nil {
		return "", fmt.Errorf("grant roles: %w", exists(err))
	}
	return id, nil
}

// SetGrant replaces the roles of a grant.
func (s *Store) SetGrant(ctx context.Context, user, grant string, roles []string) error {
	return s.mustChange(ctx, "UPDATE grants SET roles = ? WHERE id = ? AND user = ?", toJSON(roles), grant, user)
}

// DeleteGrant removes a grant.
func (s *Store) DeleteGrant(ctx context.Context, user, grant string) error {
	return s.mustChange(ctx, "DELETE FROM grants WHERE id = ? AND user = ?", grant, user)
}

// Grants lists all grants, or those of one user when that is not "".
func (s *Store) Grants(ctx context.Context, user string) ([]Grant, error) {
	if user == "" {
		return list(ctx, s.read, scanGrant, selectGrants+"ORDER BY g.created, g.id")
	}
	return list(ctx, s.read, scanGrant, selectGrants+"WHERE g.user = ? ORDER BY g.created, g.id", user)
}

// list reads all rows of a query.
func list[T any](ctx context.Context, db *sql.DB, scan func(scanner) (T, error), query string, args ...any) (_ []T, err error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var out []T
	for rows.Next() {
		item, err := scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, item)
	}
	return out, rows.Err()
}

// exists names a broken rule of the schema as callers know it.
func exists(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return ErrExists
	case sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
		return ErrNotFound
	}
	return err
}

func toJSON(list []string) string {
	data, _ := json.Marshal(list) // strings always encode
	return string(data)
}

func words(s string) []string { return strings.Fields(s) }
