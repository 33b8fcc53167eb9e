package store

import (
	"context"
	"database/sql"
	"time"
)

// SigningKey is a key that tokens are, or were, signed with.
type SigningKey struct {
	ID      string
	Private []byte // PKCS #8, DER
	Created time.Time
	Retired time.Time // zero for the one in use
}

// SigningKeys lists all keys, the one in use first. When there is none, or
// when it is older than maxAge, makes one and retires the others.
// Retired keys are removed once they have been so for keep.
func (s *Store) SigningKeys(ctx context.Context, maxAge, keep time.Duration, create func() (SigningKey, error)) (keys []SigningKey, err error) {
	now := s.now()
	err = s.tx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM signing_keys WHERE retired > 0 AND retired < ?", millis(now.Add(-keep))); err != nil {
			return err
		}
		var fresh int
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM signing_keys WHERE retired = 0 AND created > ?", millis(now.Add(-maxAge))).Scan(&fresh); err != nil {
			return err
		}
		if fresh > 0 {
			return nil
		}
		key, err := create()
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE signing_keys SET retired = ? WHERE retired = 0", millis(now)); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO signing_keys (id, private, created) VALUES (?, ?, ?)", key.ID, key.Private, millis(now))
		return err
	})
	if err != nil {
		return nil, err
	}
	return list(ctx, s.read, func(row scanner) (k SigningKey, err error) {
		var created, retired int64
		err = row.Scan(&k.ID, &k.Private, &created, &retired)
		k.Created, k.Retired = fromMillis(created), fromMillis(retired)
		return k, err
	}, "SELECT id, private, created, retired FROM signing_keys ORDER BY retired > 0, created DESC")
}
