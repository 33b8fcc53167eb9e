package cli

import (
	"context"
	"sync"
	"time"

	"github.com/nationtech/fleetctl/internal/identity/oidcclient"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
)

// signInOnce makes the factory's target one that is signed in to for this run
// alone, by a device code unless there is a token already. end revokes what the
// sign-in gave; nothing of it was ever on disk.
func (f *Factory) signInOnce(ctx context.Context, o loginOptions, token apiclient.Session) (end func(), err error) {
	t, err := f.loginTarget(ctx, o)
	if err != nil {
		return nil, err
	}
	if token != nil {
		t.tokens = token
		f.once = &t
		return func() {}, nil
	}
	issuer, err := discover(ctx, t.context)
	if err != nil {
		return nil, err
	}
	code, err := issuer.Begin(ctx)
	if err != nil {
		return nil, err
	}
	f.printCode(code, false) // it may be a device's terminal; scripts get the result alone on stdout
	tokens, err := issuer.Wait(ctx, code)
	if err != nil {
		return nil, err
	}
	kept := &memorySession{issuer: issuer, tokens: tokens}
	t.tokens = kept
	f.once = &t
	return func() { kept.end(ctx, f) }, nil
}

// memorySession is a session that no file has.
type memorySession struct {
	issuer *oidcclient.Provider

	mu     sync.Mutex
	tokens oidcclient.Tokens
}

const (
	memoryRenewBefore = time.Minute
	revokeTimeout     = 10 * time.Second
)

// Token implements apiclient.Session.
func (m *memorySession) Token(ctx context.Context) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Until(m.tokens.Expiry) > memoryRenewBefore {
		return string(m.tokens.Bearer), nil
	}
	return m.renew(ctx)
}

// Renew implements apiclient.Session.
func (m *memorySession) Renew(ctx context.Context, refused string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if refused != string(m.tokens.Bearer) {
		return string(m.tokens.Bearer), nil
	}
	return m.renew(ctx)
}

func (m *memorySession) renew(ctx context.Context) (string, error) {
	if m.tokens.Refresh == "" {
		return string(m.tokens.Bearer), nil
	}
	next, err := m.issuer.Refresh(ctx, m.tokens.Refresh)
	if err != nil {
		return "", err
	}
	if next.Refresh == "" {
		next.Refresh = m.tokens.Refresh
	}
	m.tokens = next
	return string(next.Bearer), nil
}

// end revokes the session, also after ctrl-C.
func (m *memorySession) end(ctx context.Context, f *Factory) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTimeout)
	defer cancel()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tokens.Refresh == "" {
		return
	}
	if err := m.issuer.Revoke(ctx, m.tokens.Refresh); err != nil {
		f.Log().Warn("the session of this run was not ended at the issuer", "op", "enroll", "error", err)
	}
}
