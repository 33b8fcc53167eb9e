package signing

import (
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nationtech/fleetctl/internal/hint"
)

// Names of the key files in a directory of Open and Load.
const (
	CurrentFile   = "signing.key"
	SuccessorFile = "signing-next.key"
)

// Load reads the keys in a directory that somebody else made, such as a Secret
// mounted into a pod, whose files all of the pod may read. It makes no key.
func Load(dir string) (*Signer, error) {
	current, err := loadMounted(filepath.Join(dir, CurrentFile))
	if err != nil {
		return nil, err
	}
	successor, err := loadMounted(filepath.Join(dir, SuccessorFile))
	if err != nil {
		return nil, err
	}
	return &Signer{current, successor}, nil
}

func loadMounted(path string) (ed25519.PrivateKey, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("load signing key: %w", err), "it comes from the Secret that fleetctl server install made")
	}
	key, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("load signing key %s: %w", path, err)
	}
	return key, nil
}

// Generate makes a key as it is in such a file.
func Generate() ([]byte, error) { return create() }
