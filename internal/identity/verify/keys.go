package verify

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// freshFor is how long keys are used before they are looked at again, in
	// the background: a key that the issuer withdrew is good for that long.
	freshFor = 10 * time.Minute
	// fetchEvery bounds what tokens with made-up key ids cost the issuer.
	fetchEvery   = 5 * time.Second
	fetchTimeout = 10 * time.Second
	maxDocument  = 1 << 20 // bytes
	minRSABits   = 2048
)

// keySet is the issuer's published keys. Keys that were had once stay in use
// while the issuer does not answer.
type keySet struct {
	lifetime context.Context
	issuer   string
	client   *http.Client
	clock    func() time.Time

	mu      sync.Mutex
	keys    []jose.JSONWebKey
	fetched time.Time // the last fetch that succeeded
	tried   time.Time // the last fetch
	failure error     // of the last fetch
	running chan struct{}
}

func (k *keySet) current() []jose.JSONWebKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keys
}

// find gives the keys that may have signed a token with this key id; all of
// them for a token without one.
func (k *keySet) find(ctx context.Context, id string) ([]jose.JSONWebKey, error) {
	k.mu.Lock()
	keys, now := k.keys, k.clock()
	if age := now.Sub(k.fetched); len(keys) > 0 && (age > freshFor || age < 0) {
		k.start(now)
	}
	k.mu.Unlock()
	if found := pick(keys, id); len(found) > 0 {
		return found, nil
	}
	if err := k.refresh(ctx); err != nil && len(k.current()) == 0 {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if found := pick(k.current(), id); len(found) > 0 {
		return found, nil
	}
	return nil, ErrUnknownKey
}

func pick(keys []jose.JSONWebKey, id string) []jose.JSONWebKey {
	if id == "" {
		return keys
	}
	var found []jose.JSONWebKey
	for _, key := range keys {
		if key.KeyID == id {
			found = append(found, key)
		}
	}
	return found
}

// refresh waits for a fetch, its own or one that runs, unless the last one was
// a moment ago; it gives that one's error.
func (k *keySet) refresh(ctx context.Context) error {
	k.mu.Lock()
	running := k.start(k.clock())
	k.mu.Unlock()
	if running != nil {
		select {
		case <-running:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.failure
}

// start starts a fetch and gives what closes at its end, nil when it is too
// early for another. k.mu is held.
func (k *keySet) start(now time.Time) <-chan struct{} {
	if k.running != nil {
		return k.running
	}
	if since := now.Sub(k.tried); !k.tried.IsZero() && since >= 0 && since < fetchEvery {
		return nil
	}
	done := make(chan struct{})
	k.running, k.tried = done, now
	go func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(k.lifetime, fetchTimeout)
		defer cancel()
		keys, err := k.fetch(ctx)
		k.mu.Lock()
		defer k.mu.Unlock()
		k.running, k.failure = nil, err
		if err == nil {
			k.keys, k.fetched = keys, k.clock()
		}
	}()
	return done
}

// fetch reads the issuer's metadata (OpenID Connect Discovery 1.0, 4) and the
// keys that it names.
func (k *keySet) fetch(ctx context.Context) ([]jose.JSONWebKey, error) {
	var meta struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if err := k.get(ctx, strings.TrimSuffix(k.issuer, "/")+"/.well-known/openid-configuration", &meta); err != nil {
		return nil, fmt.Errorf("discover issuer %s: %w", k.issuer, err)
	}
	if meta.Issuer != k.issuer {
		return nil, fmt.Errorf("discover issuer %s: it calls itself %q", k.issuer, clip(meta.Issuer))
	}
	if !secure(meta.JWKSURI) {
		return nil, fmt.Errorf("discover issuer %s: the URL of its keys is not https", k.issuer)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := k.get(ctx, meta.JWKSURI, &set); err != nil {
		return nil, fmt.Errorf("fetch keys of issuer %s: %w", k.issuer, err)
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		// A key of a kind that we do not know does not spoil the others
		// (RFC 7517, 5).
		if json.Unmarshal(raw, &key) == nil && usable(key) {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("fetch keys of issuer %s: it publishes none that can be used", k.issuer)
	}
	return keys, nil
}

func usable(key jose.JSONWebKey) bool {
	if key.Use != "" && key.Use != "sig" {
		return false
	}
	switch public := key.Key.(type) {
	case *rsa.PublicKey:
		return public.N.BitLen() >= minRSABits
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return true
	}
	return false
}

func (k *keySet) get(ctx context.Context, rawURL string, into any) error {
	if !secure(rawURL) {
		return errors.New("its URL is not https")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, rawURL, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := k.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("HTTP %s", resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxDocument)).Decode(into); err != nil {
		return fmt.Errorf("the answer is not what an issuer gives: %w", err)
	}
	return nil
}

// secure: who can change the keys on their way can sign anything.
func secure(rawURL string) bool {
	u, err := url.Parse(rawURL)
	if err != nil || u.Host == "" {
		return false
	}
	if u.Scheme == "https" {
		return true
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return u.Scheme == "http" && (u.Hostname() == "localhost" || err == nil && addr.IsLoopback())
}
