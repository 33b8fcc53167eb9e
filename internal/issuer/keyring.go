package issuer

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/nationtech/fleetctl/internal/issuer/store"
)

const keyBits = 2048

// keyring has the signing keys parsed. A new key signs at once: those who check
// tokens ask for the key set again when they meet a key that they do not know.
type keyring struct {
	store *store.Store

	mu   sync.RWMutex
	keys []*signingKey // the first one signs
}

type signingKey struct {
	id  string
	key *rsa.PrivateKey
}

func openKeys(ctx context.Context, db *store.Store) (*keyring, error) {
	k := &keyring{store: db}
	return k, k.rotate(ctx, signingKeyAge)
}

// rotate makes a new signing key when the present one is older than maxAge, and
// drops those that no living token is signed with.
func (k *keyring) rotate(ctx context.Context, maxAge time.Duration) error {
	rows, err := k.store.SigningKeys(ctx, maxAge, signingKeyKeep, newSigningKey)
	if err != nil {
		return fmt.Errorf("read signing keys: %w", err)
	}
	keys := make([]*signingKey, 0, len(rows))
	for _, row := range rows {
		parsed, err := x509.ParsePKCS8PrivateKey(row.Private)
		if err != nil {
			return fmt.Errorf("parse signing key %s: %w", row.ID, err)
		}
		key, ok := parsed.(*rsa.PrivateKey)
		if !ok {
			return fmt.Errorf("signing key %s is not RSA", row.ID)
		}
		keys = append(keys, &signingKey{row.ID, key})
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys = keys
	return nil
}

func newSigningKey() (store.SigningKey, error) {
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return store.SigningKey{}, fmt.Errorf("make signing key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return store.SigningKey{}, fmt.Errorf("encode signing key: %w", err)
	}
	return store.SigningKey{ID: store.NewID(), Private: der}, nil
}

func (k *keyring) all() []*signingKey {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.keys
}

func (s *signingKey) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.RS256 }
func (s *signingKey) Key() any                                    { return s.key }
func (s *signingKey) ID() string                                  { return s.id }

// publicKey is what the key set shows of a signingKey.
type publicKey struct{ *signingKey }

func (p publicKey) Algorithm() jose.SignatureAlgorithm { return jose.RS256 }
func (p publicKey) Use() string                        { return "sig" }
func (p publicKey) Key() any                           { return &p.key.PublicKey }

func (s *storage) SigningKey(context.Context) (op.SigningKey, error) { return s.keys.all()[0], nil }

func (s *storage) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.RS256}, nil
}

func (s *storage) KeySet(context.Context) ([]op.Key, error) {
	var out []op.Key
	for _, key := range s.keys.all() {
		out = append(out, publicKey{key})
	}
	return out, nil
}
