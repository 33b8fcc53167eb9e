package serverapi

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/nationtech/fleetctl/internal/identity/role"
	"github.com/nationtech/fleetctl/internal/secretfile"
)

// Principal is who asks.
type Principal struct {
	Name    string   // for the audit record
	Subject string   // the issuer's id of the user; "" for the administrator's token
	Roles   []string // internal/identity/role
}

// Authenticator tells who sent a request. Its error is for the log only.
type Authenticator interface {
	Authenticate(r *http.Request) (Principal, error)
}

const tokenBytes = 32

// LoadAdminToken reads the token in path that the first start writes: the one
// way in before there is an issuer. The file ends with a newline.
func LoadAdminToken(path string) (AdminToken, error) {
	hash, err := loadToken(path)
	if err != nil {
		return AdminToken{}, fmt.Errorf("load admin token: %w", err)
	}
	return AdminToken{hash}, nil
}

// loadToken gives the hash of the token in path, which it makes when there is
// none.
func loadToken(path string) (hash [sha256.Size]byte, err error) {
	data, err := secretfile.LoadOrCreate(path, func() ([]byte, error) {
		raw := make([]byte, tokenBytes)
		_, err := rand.Read(raw)
		return []byte(hex.EncodeToString(raw) + "\n"), err
	})
	if err != nil {
		return hash, err
	}
	return hashToken(path, data)
}

// ReadAdminToken is LoadAdminToken for a file that somebody else makes, such as
// a Secret mounted into a pod.
func ReadAdminToken(path string) (AdminToken, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return AdminToken{}, fmt.Errorf("read admin token: %w", err)
	}
	hash, err := hashToken(path, data)
	if err != nil {
		return AdminToken{}, fmt.Errorf("load admin token: %w", err)
	}
	return AdminToken{hash}, nil
}

func hashToken(path string, data []byte) (hash [sha256.Size]byte, err error) {
	token := strings.TrimSpace(string(data))
	if raw, err := hex.DecodeString(token); err != nil || len(raw) != tokenBytes {
		return hash, fmt.Errorf("%s holds no token", path)
	}
	return sha256.Sum256([]byte(token)), nil
}

// AdminToken authenticates by a bearer token (RFC 6750). It holds the token's
// hash alone.
type AdminToken struct{ hash [sha256.Size]byte }

var errNoToken = errors.New("no bearer token")

// Authenticate accepts the one token.
func (a AdminToken) Authenticate(r *http.Request) (Principal, error) {
	if err := compareToken(r, a.hash); err != nil {
		return Principal{}, err
	}
	return Principal{Name: "admin-token", Roles: []string{role.Admin}}, nil
}

// ScrapeToken lets in a monitoring system, to the metrics and nothing else: a
// token of the issuer would expire, and the administrator's opens too much.
type ScrapeToken struct{ hash [sha256.Size]byte }

// LoadScrapeToken reads the token in path that the first start writes.
func LoadScrapeToken(path string) (ScrapeToken, error) {
	hash, err := loadToken(path)
	if err != nil {
		return ScrapeToken{}, fmt.Errorf("load metrics token: %w", err)
	}
	return ScrapeToken{hash}, nil
}

// Authenticate accepts the one token.
func (s ScrapeToken) Authenticate(r *http.Request) (Principal, error) {
	if err := compareToken(r, s.hash); err != nil {
		return Principal{}, err
	}
	return Principal{Name: "metrics-token", Roles: []string{role.Viewer}}, nil
}

func compareToken(r *http.Request, hash [sha256.Size]byte) error {
	token, err := bearer(r)
	if err != nil {
		return err
	}
	got := sha256.Sum256([]byte(token))
	if subtle.ConstantTimeCompare(got[:], hash[:]) != 1 {
		return errors.New("wrong token")
	}
	return nil
}
