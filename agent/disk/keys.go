package disk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/nationtech/fleetctl/internal/wire"
)

const keysFile = "signing-keys.json"

// Keys are the keys that the control plane put in the place of those that
// onboarding pinned.
type Keys struct {
	SchemaVersion int `json:"schemaVersion"`
	// Onboarded is wire.Hash of the file that these began with. A device that
	// was onboarded again has another one, and these count no more.
	Onboarded string          `json:"onboarded"`
	Pinned    wire.PinnedKeys `json:"pinned"`
}

// SaveKeys writes k. It is on disk when SaveKeys returns nil.
func SaveKeys(dir string, k *Keys) error {
	data, err := json.Marshal(k)
	if err == nil {
		err = writeSummed(filepath.Join(dir, keysFile), data)
	}
	if err != nil {
		return fmt.Errorf("write signing keys: %w", err)
	}
	return nil
}

// LoadKeys reads what SaveKeys wrote; nil when there is nothing.
func LoadKeys(dir string) (*Keys, error) {
	data, err := readSummed(filepath.Join(dir, keysFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	k := &Keys{}
	if err == nil {
		err = json.Unmarshal(data, k)
	}
	if err != nil {
		return nil, fmt.Errorf("read signing keys: %w", err)
	}
	return k, nil
}
