package assets

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	//lint:ignore SA1019 frozen, not broken: verifying signatures is all we ask of it
	"golang.org/x/crypto/openpgp" //nolint:staticcheck // see above
	//lint:ignore SA1019 as above
	"golang.org/x/crypto/openpgp/clearsign" //nolint:staticcheck // as above
)

// errNoKeyring says that a signature could not be checked here.
var errNoKeyring = errors.New("this machine does not have the publisher's keys")

// verifyDetached checks a list against its signature.
func verifyDetached(list, signature []byte, keyrings []string) error {
	keys, err := readKeys(keyrings)
	if err != nil {
		return err
	}
	check := openpgp.CheckDetachedSignature
	if bytes.HasPrefix(bytes.TrimSpace(signature), []byte("-----BEGIN")) {
		check = openpgp.CheckArmoredDetachedSignature
	}
	if _, err := check(keys, bytes.NewReader(list), bytes.NewReader(signature)); err != nil {
		return fmt.Errorf("the publisher's list is not signed by the publisher: %w", err)
	}
	return nil
}

// openClear returns the text of a clear-signed list, checked where there are
// keys; without keys the error is errNoKeyring and the text is good to read.
func openClear(list []byte, keyrings []string) ([]byte, error) {
	block, _ := clearsign.Decode(list)
	if block == nil {
		return nil, errors.New("the publisher's list carries no signature")
	}
	keys, err := readKeys(keyrings)
	if err != nil {
		return block.Plaintext, err
	}
	if _, err := openpgp.CheckDetachedSignature(keys, bytes.NewReader(block.Bytes), block.ArmoredSignature.Body); err != nil {
		return nil, fmt.Errorf("the publisher's list is not signed by the publisher: %w", err)
	}
	return block.Plaintext, nil
}

// readKeys reads the first keyring that is there, armored or not.
func readKeys(paths []string) (openpgp.EntityList, error) {
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read keyring: %w", err)
		}
		read := openpgp.ReadKeyRing
		if bytes.Contains(data, []byte("-----BEGIN PGP")) {
			read = openpgp.ReadArmoredKeyRing
		}
		keys, err := read(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("read keyring %s: %w", path, err)
		}
		return keys, nil
	}
	return nil, errNoKeyring
}
