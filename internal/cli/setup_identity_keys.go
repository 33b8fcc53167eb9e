package cli

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/nationtech/fleetctl/internal/identity/provision"
	"github.com/nationtech/fleetctl/internal/identity/zitadel"
	"github.com/nationtech/fleetctl/internal/keyfile"
	"github.com/nationtech/fleetctl/internal/secretfile"
)

// serviceKeyBits: these keys are used from machines that can afford it.
const serviceKeyBits = 3072

// serviceKeys are the key files of the control plane's programs, in a directory
// that only their owner enters.
type serviceKeys struct {
	client *zitadel.Client
	dir    string
}

func (k serviceKeys) path(s provision.Service) string { return filepath.Join(k.dir, s.Name+".json") }

// ensure leaves a key file that the issuer knows, and else makes one. Keys that
// are registered and not here may be another machine's: they stay.
func (k serviceKeys) ensure(ctx context.Context, s provision.Service, user string, registered []zitadel.Key) (changed bool, err error) {
	if err := secretfile.EnsureDir(k.dir); err != nil {
		return false, err
	}
	have, err := keyfile.Read(k.path(s))
	switch {
	case err == nil && have.UserID == user && slices.ContainsFunc(registered, func(r zitadel.Key) bool { return r.ID == have.KeyID }):
		return false, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	key, err := rsa.GenerateKey(rand.Reader, serviceKeyBits)
	if err != nil {
		return false, fmt.Errorf("make key of %s: %w", s.Name, err)
	}
	public, err := keyfile.PublicPEM(&key.PublicKey)
	if err != nil {
		return false, err
	}
	added, err := k.client.AddKey(ctx, user, public, time.Time{})
	if err != nil {
		return false, err
	}
	data := []byte(added.File) // of a provider that makes the pair itself
	if len(data) == 0 {
		if data, err = (keyfile.Key{KeyID: added.ID, UserID: user, Private: key}).Encode(); err != nil {
			return true, err
		}
	}
	return true, secretfile.Write(k.path(s), data)
}
