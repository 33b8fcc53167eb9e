package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// AuthRequest is a sign-in by code that has been begun.
type AuthRequest struct {
	ID       string
	Request  []byte // the issuer's own encoding
	User     string // "" until the person has signed in
	AuthTime time.Time
	Browser  string // hash of the secret in the browser that signed in
	Expires  time.Time
}

const authColumns = "id, request, user, auth_time, browser, expires"

func scanAuth(row scanner) (a AuthRequest, err error) {
	var authTime, expires int64
	err = row.Scan(&a.ID, &a.Request, &a.User, &authTime, &a.Browser, &expires)
	a.AuthTime, a.Expires = fromMillis(authTime), fromMillis(expires)
	return a, notFound(err)
}

// AddAuthRequest stores the beginning of a sign-in.
func (s *Store) AddAuthRequest(ctx context.Context, id string, request []byte, expires time.Time) error {
	_, err := s.exec(ctx, "INSERT INTO auth_requests (id, request, expires) VALUES (?, ?, ?)", id, string(request), millis(expires))
	return err
}

// AuthRequest reads one that has not expired.
func (s *Store) AuthRequest(ctx context.Context, id string) (AuthRequest, error) {
	return scanAuth(s.read.QueryRowContext(ctx, "SELECT "+authColumns+" FROM auth_requests WHERE id = ? AND expires > ?", id, millis(s.now())))
}

// SignedIn records who signed in, once, in which browser.
func (s *Store) SignedIn(ctx context.Context, id, user, browser string) error {
	return s.mustChange(ctx, "UPDATE auth_requests SET user = ?, auth_time = ?, browser = ? WHERE id = ? AND user = '' AND expires > ?",
		user, millis(s.now()), Hash(browser), id, millis(s.now()))
}

// SetCode stores the code that stands for a sign-in; a second one is refused.
func (s *Store) SetCode(ctx context.Context, id, code string, expires time.Time) error {
	return s.mustChange(ctx, "UPDATE auth_requests SET code = ?, expires = ? WHERE id = ? AND user != '' AND code IS NULL",
		Hash(code), millis(expires), id)
}

// UseCode gives the sign-in of a code, once: the second time it is ErrReused,
// and all tokens of the first are revoked until keep (RFC 6749, 4.1.2).
func (s *Store) UseCode(ctx context.Context, code string, keep time.Time) (a AuthRequest, err error) {
	reused := false
	err = s.tx(ctx, func(tx *sql.Tx) (err error) {
		a, err = scanAuth(tx.QueryRowContext(ctx, "SELECT "+authColumns+" FROM auth_requests WHERE code = ?", Hash(code)))
		if err != nil {
			return err
		}
		res, err := tx.ExecContext(ctx, "UPDATE auth_requests SET used = 1 WHERE id = ? AND used = 0", a.ID)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 1 {
			return err
		}
		reused = true
		return revoke(ctx, tx, a.ID, keep)
	})
	switch {
	case err != nil:
		return a, err
	case reused:
		return a, ErrReused
	case !s.now().Before(a.Expires):
		return a, ErrExpired
	}
	return a, nil
}

// States of a device code.
const (
	DevicePending  = "pending"
	DeviceApproved = "approved"
	DeviceDenied   = "denied"
	DeviceUsed     = "used"
)

// DeviceCode is a sign-in of a program without a browser (RFC 8628).
type DeviceCode struct {
	UserCode string
	Client   string
	Scopes   []string
	State    string
	User     string
	AuthTime time.Time
	Expires  time.Time
}

const deviceColumns = "user_code, client, scopes, state, user, auth_time, expires"

func scanDevice(row scanner) (d DeviceCode, err error) {
	var scopes string
	var authTime, expires int64
	err = row.Scan(&d.UserCode, &d.Client, &scopes, &d.State, &d.User, &authTime, &expires)
	d.Scopes, d.AuthTime, d.Expires = words(scopes), fromMillis(authTime), fromMillis(expires)
	return d, notFound(err)
}

// ErrTooMany is a full table of codes that nobody has used yet.
var ErrTooMany = errors.New("too many sign-ins have been begun")

// AddDeviceCode stores a new pair of codes, at most limit at a time. ErrExists:
// the user code is taken.
func (s *Store) AddDeviceCode(ctx context.Context, code string, d DeviceCode, scopes string, limit int) error {
	return s.tx(ctx, func(tx *sql.Tx) error {
		now := millis(s.now())
		if _, err := tx.ExecContext(ctx, "DELETE FROM device_codes WHERE expires < ?", now-time.Minute.Milliseconds()); err != nil {
			return err
		}
		var n int
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM device_codes").Scan(&n); err != nil {
			return err
		}
		if n >= limit {
			return ErrTooMany
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO device_codes (code, user_code, client, scopes, state, expires) VALUES (?, ?, ?, ?, ?, ?)",
			Hash(code), d.UserCode, d.Client, scopes, DevicePending, millis(d.Expires))
		return exists(err)
	})
}

// ErrSlowDown: a device asked again too soon.
var ErrSlowDown = errors.New("asked again too soon")

// PollDevice gives the state of a device code and remembers that it was asked
// for: sooner than interval after the last time it is ErrSlowDown. An
// approved code is given so once; after that its state is DeviceUsed.
func (s *Store) PollDevice(ctx context.Context, client, code string, interval time.Duration) (d DeviceCode, err error) {
	slow := false
	err = s.tx(ctx, func(tx *sql.Tx) (err error) {
		hash, now := Hash(code), millis(s.now())
		d, err = scanDevice(tx.QueryRowContext(ctx, "SELECT "+deviceColumns+" FROM device_codes WHERE code = ? AND client = ?", hash, client))
		if err != nil {
			return err
		}
		var polled int64
		if err := tx.QueryRowContext(ctx, "SELECT polled FROM device_codes WHERE code = ?", hash).Scan(&polled); err != nil {
			return err
		}
		slow = polled > 0 && now-polled < interval.Milliseconds()
		next := d.State
		if d.State == DeviceApproved && !slow && now < millis(d.Expires) {
			next = DeviceUsed
		}
		_, err = tx.ExecContext(ctx, "UPDATE device_codes SET polled = ?, state = ? WHERE code = ?", now, next, hash)
		return err
	})
	if err != nil {
		return d, fmt.Errorf("look up device code: %w", err)
	}
	if slow {
		return d, ErrSlowDown
	}
	return d, nil
}

// DecideDevice records a person's answer for a user code, once and in time.
func (s *Store) DecideDevice(ctx context.Context, userCode, user string, approve bool) error {
	state := DeviceDenied
	if approve {
		state = DeviceApproved
	}
	return s.mustChange(ctx, "UPDATE device_codes SET state = ?, user = ?, auth_time = ? WHERE user_code = ? AND state = ? AND expires > ?",
		state, user, millis(s.now()), userCode, DevicePending, millis(s.now()))
}
