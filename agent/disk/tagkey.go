package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

const tagKeyFile = "tag.key"

// TagKey gives the key in dir that tags of secret content are made with. Where
// there is none, derived becomes it. The key is usable also beside an error,
// which says that it will not be remembered.
func TagKey(dir string, derived []byte) ([]byte, error) {
	path := filepath.Join(dir, tagKeyFile)
	key, err := readSummed(path)
	if err == nil {
		return key, nil
	}
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrTorn) {
		return derived, fmt.Errorf("read the key of tags: %w", err)
	}
	if err := writeSummed(path, derived); err != nil {
		return derived, fmt.Errorf("write the key of tags: %w", err)
	}
	return derived, nil
}
