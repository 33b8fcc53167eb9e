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
	data, err := secretfile.LoadOrCreate(path, func() ([]byte, error) {
		raw := make([]byte, tokenBytes)
		_, err := rand.Read(raw)
		return []byte(hex.EncodeToString(raw) + "\n"), err
	})
	if err != nil {
		return AdminToken{}, fmt.Errorf("load admin token: %w", err)
	}
	return parseAdminToken(path, data)
}

// ReadAdminToken is LoadAdminToken for a file that somebody else makes, such as
// a Secret mounted into a pod.
func ReadAdminToken(path string) (AdminToken, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return AdminToken{}, fmt.Errorf("read admin token: %w", err)
	}
	return parseAdminToken(path, data)
}

func parseAdminToken(path string, data []byte) (AdminToken, error) {
	token := strings.TrimSpace(string(data))
	if raw, err := hex.DecodeString(token); err != nil || len(raw) != tokenBytes {
		return AdminToken{}, fmt.Errorf("load admin token: %s holds no token", path)
	}
	return AdminToken{sha256.Sum256([]byte(token))}, nil
}

// AdminToken authenticates by a bearer token (RFC 6750). It holds the token's
// hash alone.
type AdminToken struct{ hash [sha256.Size]byte }

var errNoToken = errors.New("no bearer token")

// Authenticate accepts the one token.
func (a AdminToken) Authenticate(r *http.Request) (Principal, error) {
	token, err := bearer(r)
	if err != nil {
		return Principal{}, err
	}
	got := sha256.Sum256([]byte(token))
	if subtle.ConstantTimeCompare(got[:], a.hash[:]) != 1 {
		return Principal{}, errors.New("wrong token")
	}
	return Principal{Name: "admin-token", Roles: []string{role.Admin}}, nil
}
