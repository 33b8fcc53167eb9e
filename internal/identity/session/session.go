package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/identity/oidcclient"
	"github.com/nationtech/fleetctl/internal/secretfile"
)

// Session is a sign-in: what the issuer gave last.
type Session struct {
	SchemaVersion int               `json:"schemaVersion"`
	Issuer        string            `json:"issuer"`
	ClientID      string            `json:"clientId"`
	Bearer        oidcclient.Secret `json:"token"`
	Refresh       oidcclient.Secret `json:"refreshToken,omitempty"` // "" once the issuer refused it
	Obtained      time.Time         `json:"obtained"`               // of Bearer
	Expiry        time.Time         `json:"expiry"`                 // of Bearer
	SignedIn      time.Time         `json:"signedIn"`
	User          oidcclient.User   `json:"user"`
	Roles         []string          `json:"roles,omitempty"`
}

// ErrSignedOut is a context without a session.
var ErrSignedOut = errors.New("not signed in")

// Session reads a context's session; ErrSignedOut when there is none.
func (s Store) Session(name string) (Session, error) {
	var out Session
	data, err := secretfile.Read(s.sessionFile(name))
	if errors.Is(err, fs.ErrNotExist) {
		return out, hint.WithCode(hint.Wrap(fmt.Errorf("context %s: %w", name, ErrSignedOut), "sign in with: fleetctl login --context "+name), hint.CodeAuth)
	}
	if err != nil {
		return out, fmt.Errorf("read session of context %s: %w", name, err)
	}
	if err := json.Unmarshal(data, &out); err != nil {
		return out, hint.WithCode(hint.Wrap(fmt.Errorf("decode session of context %s: %w", name, err), "sign in again with: fleetctl login --context "+name), hint.CodeAuth)
	}
	return out, nil
}

// Begin keeps the session of a new sign-in in place of any there was, which it
// returns; its refresh token is "" when there was none.
func (s Store) Begin(ctx context.Context, name string, c Context, t oidcclient.Tokens, now time.Time) (old Session, err error) {
	unlock, err := s.lock(ctx, name)
	if err != nil {
		return old, err
	}
	defer unlock()
	if old, err = s.Session(name); err != nil {
		old = Session{} // whatever is wrong with it, it is replaced
	}
	return old, s.write(name, Session{SchemaVersion: schemaVersion, Issuer: c.Issuer, ClientID: c.ClientID, SignedIn: now,
		Bearer: t.Bearer, Refresh: t.Refresh, Obtained: now, Expiry: t.Expiry, User: t.User, Roles: t.Roles})
}

// End removes a session and gives what it was; ErrSignedOut when there was none.
func (s Store) End(ctx context.Context, name string) (Session, error) {
	unlock, err := s.lock(ctx, name)
	if err != nil {
		return Session{}, err
	}
	defer unlock()
	old, err := s.Session(name)
	if errors.Is(err, ErrSignedOut) {
		return old, err
	}
	if err := os.Remove(s.sessionFile(name)); err != nil {
		return old, fmt.Errorf("remove session: %w", err)
	}
	return old, nil // one that could not be read is gone as well
}

func (s Store) sessionFile(name string) string { return filepath.Join(s.sessions(), name+".json") }

func (s Store) write(name string, session Session) error {
	data, err := json.MarshalIndent(session, "", "  ")
	if err != nil {
		return fmt.Errorf("encode session: %w", err)
	}
	return secretfile.Write(s.sessionFile(name), append(data, '\n'))
}
