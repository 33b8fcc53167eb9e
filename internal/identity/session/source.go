package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/identity/oidcclient"
)

const (
	renewBefore  = time.Minute // or a quarter of the token's life, if that is shorter
	renewTimeout = 30 * time.Second
)

// Renewer gives new tokens for a refresh token, which is good once.
type Renewer interface {
	Refresh(ctx context.Context, refresh oidcclient.Secret) (oidcclient.Tokens, error)
}

// Source gives a context's token, renewed when it has to be.
type Source struct {
	Store Store
	Name  string
	// Connect finds the issuer; it is called only when something is to be renewed.
	Connect func(ctx context.Context) (Renewer, error)
	Now     func() time.Time
}

// Session gives the session with a token that is good for a while.
func (s *Source) Session(ctx context.Context) (Session, error) {
	current, err := s.Store.Session(s.Name)
	if err != nil || s.fresh(current) {
		return current, err
	}
	return s.renew(ctx, s.fresh)
}

// Token gives the token alone.
func (s *Source) Token(ctx context.Context) (string, error) {
	current, err := s.Session(ctx)
	return string(current.Bearer), err
}

// Renew gives a token other than refused, which a server did not take although
// it should be good: clocks may differ, or somebody revoked it.
func (s *Source) Renew(ctx context.Context, refused string) (string, error) {
	current, err := s.renew(ctx, func(c Session) bool { return string(c.Bearer) != refused && s.fresh(c) })
	return string(current.Bearer), err
}

func (s *Source) fresh(c Session) bool {
	now, before := s.Now(), min(renewBefore, c.Expiry.Sub(c.Obtained)/4)
	// A token from the future says that the clock was set back: its expiry means nothing.
	return now.Add(before).Before(c.Expiry) && !c.Obtained.After(now.Add(time.Minute))
}

// renew asks the issuer for new tokens, unless another process already did: a
// second use of a refresh token would end the session.
func (s *Source) renew(ctx context.Context, good func(Session) bool) (Session, error) {
	unlock, err := s.Store.lock(ctx, s.Name)
	if err != nil {
		return Session{}, err
	}
	defer unlock()
	current, err := s.Store.Session(s.Name)
	if err != nil || good(current) {
		return current, err
	}
	if current.Refresh == "" {
		return current, s.ended(oidcclient.ErrEnded)
	}
	issuer, err := s.Connect(ctx)
	if err != nil {
		return current, err
	}
	// From here to the write ctrl-C has to wait: what the issuer gave must not be lost.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), renewTimeout)
	defer cancel()
	tokens, err := issuer.Refresh(ctx, current.Refresh)
	if errors.Is(err, oidcclient.ErrEnded) {
		current.Refresh = ""
		return current, errors.Join(s.ended(err), s.Store.write(s.Name, current))
	}
	if err != nil {
		return current, err
	}
	current.Bearer, current.Expiry, current.Obtained, current.Roles = tokens.Bearer, tokens.Expiry, s.Now(), tokens.Roles
	current.Refresh = cmp.Or(tokens.Refresh, current.Refresh)
	if tokens.User.Subject != "" {
		current.User = tokens.User
	}
	return current, s.Store.write(s.Name, current)
}

func (s *Source) ended(err error) error {
	return hint.WithCode(hint.Wrap(fmt.Errorf("context %s: %w", s.Name, err), "sign in again with: fleetctl login --context "+s.Name), hint.CodeAuth)
}
