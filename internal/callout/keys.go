package callout

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nkeys"
	"golang.org/x/crypto/nacl/box"
)

// A decision is a few operations on elliptic curves, and nkeys begins each of
// them with the seed. What is the same every time is computed once here.

// signer is an account's key with its halves at hand.
type signer struct {
	nkeys.KeyPair
	public  string
	private ed25519.PrivateKey
}

func newSigner(pair nkeys.KeyPair) (*signer, error) {
	public, err := pair.PublicKey()
	if err != nil {
		return nil, err
	}
	seed, err := rawSeed(pair)
	if err != nil {
		return nil, err
	}
	return &signer{KeyPair: pair, public: public, private: ed25519.NewKeyFromSeed(seed)}, nil
}

func rawSeed(pair nkeys.KeyPair) ([]byte, error) {
	encoded, err := pair.Seed()
	if err != nil {
		return nil, err
	}
	_, raw, err := nkeys.DecodeSeed(encoded)
	return raw, err
}

// PublicKey implements nkeys.KeyPair.
func (s *signer) PublicKey() (string, error) { return s.public, nil }

// Sign implements nkeys.KeyPair.
func (s *signer) Sign(input []byte) ([]byte, error) { return ed25519.Sign(s.private, input), nil }

// The format of nkeys' curve keys: a version, a nonce, and a box of NaCl.
const (
	boxVersion = "xkv1"
	nonceBytes = 24
)

// maxPeers bounds what is kept: a cluster has few servers, and each has a new key
// when it starts.
const maxPeers = 64

// boxes opens and seals what goes between us and the servers, by a key that is
// agreed upon with each once.
type boxes struct {
	private [32]byte

	mu     sync.Mutex
	agreed map[string]*[32]byte // by the server's public key
}

func newBoxes(pair nkeys.KeyPair) (*boxes, error) {
	seed, err := rawSeed(pair)
	if err != nil {
		return nil, err
	}
	b := &boxes{agreed: map[string]*[32]byte{}}
	if copy(b.private[:], seed) != len(b.private) {
		return nil, errors.New("not a curve key")
	}
	return b, nil
}

func (b *boxes) with(peer string) (*[32]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if key := b.agreed[peer]; key != nil {
		return key, nil
	}
	raw, err := nkeys.Decode(nkeys.PrefixByteCurve, []byte(peer))
	if err != nil {
		return nil, fmt.Errorf("key of the server: %w", err)
	}
	var public [32]byte
	if copy(public[:], raw) != len(public) || len(raw) != len(public) {
		return nil, errors.New("key of the server: not a curve key")
	}
	key := new([32]byte)
	box.Precompute(key, &public, &b.private)
	if len(b.agreed) >= maxPeers {
		clear(b.agreed)
	}
	b.agreed[peer] = key
	return key, nil
}

func (b *boxes) open(sealed []byte, from string) ([]byte, error) {
	key, err := b.with(from)
	if err != nil {
		return nil, err
	}
	if len(sealed) < len(boxVersion)+nonceBytes || string(sealed[:len(boxVersion)]) != boxVersion {
		return nil, errors.New("decrypt: not a sealed box")
	}
	nonce := [nonceBytes]byte(sealed[len(boxVersion):])
	plain, ok := box.OpenAfterPrecomputation(nil, sealed[len(boxVersion)+nonceBytes:], &nonce, key)
	if !ok {
		return nil, errors.New("decrypt: not sealed for us by that server")
	}
	return plain, nil
}

func (b *boxes) seal(plain []byte, to string) ([]byte, error) {
	key, err := b.with(to)
	if err != nil {
		return nil, err
	}
	var nonce [nonceBytes]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return nil, err
	}
	return box.SealAfterPrecomputation(append([]byte(boxVersion), nonce[:]...), plain, &nonce, key), nil
}
