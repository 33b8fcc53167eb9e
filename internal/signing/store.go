package signing

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/secretfile"
	"github.com/nationtech/fleetctl/internal/wire"
)

// Names of what a Store has.
const (
	CurrentFile   = "signing.key"      // PKCS #8 in PEM
	SuccessorFile = "signing-next.key" // the same, during a rotation
	StateFile     = "signing.json"     // once a rotation was begun
)

// Store keeps files by name. Each is written whole or not at all.
type Store interface {
	// Read gives those of the three files that are there.
	Read(ctx context.Context) (map[string][]byte, error)
	Write(ctx context.Context, name string, data []byte) error
	// Remove removes a file; that there is none is no error.
	Remove(ctx context.Context, name string) error
}

// dirStore is a directory that only its owner enters.
type dirStore string

func openDir(dir string) (Store, error) { return dirStore(dir), secretfile.EnsureDir(dir) }

func (d dirStore) path(name string) string { return filepath.Join(string(d), name) }

func (d dirStore) Read(context.Context) (map[string][]byte, error) {
	return readFiles(func(name string) ([]byte, error) { return secretfile.Read(d.path(name)) })
}

func (d dirStore) Write(_ context.Context, name string, data []byte) error {
	return secretfile.Write(d.path(name), data)
}

func (d dirStore) Remove(_ context.Context, name string) error {
	if err := os.Remove(d.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func readFiles(read func(name string) ([]byte, error)) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, name := range []string{CurrentFile, SuccessorFile, StateFile} {
		data, err := read(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		files[name] = data
	}
	return files, nil
}

// parseFiles finds the keys that the state names: which file a key is in says
// nothing, because a rotation that was cut off may have left it in either.
func parseFiles(files map[string][]byte) (keys, error) {
	restore := "restore the signing keys from a backup; with a new key every device has to be onboarded again"
	found := map[string]ed25519.PrivateKey{}
	for _, name := range []string{CurrentFile, SuccessorFile} {
		data, ok := files[name]
		if !ok {
			continue
		}
		key, err := parse(data)
		if err != nil {
			return keys{}, hint.Wrap(fmt.Errorf("load signing key %s: %w", name, err), restore)
		}
		found[wire.KeyID(public(key))] = key
		if name == CurrentFile && files[StateFile] == nil {
			// Before the first rotation. A successor that lies there from an
			// earlier version is none that anybody signs with.
			return keys{current: key, state: state{SchemaVersion: wire.SchemaVersion, Current: wire.KeyID(public(key))}}, nil
		}
	}
	if files[StateFile] == nil {
		return keys{}, hint.Wrap(fmt.Errorf("load signing key: there is no %s", CurrentFile), restore)
	}
	var k keys
	if err := json.Unmarshal(files[StateFile], &k.state); err != nil {
		return keys{}, hint.Wrap(fmt.Errorf("load %s: %w", StateFile, err), restore)
	}
	k.current, k.successor = found[k.state.Current], found[k.state.Successor]
	for id, key := range map[string]ed25519.PrivateKey{k.state.Current: k.current, k.state.Successor: k.successor} {
		if id != "" && key == nil {
			return keys{}, hint.Wrap(fmt.Errorf("load signing keys: key %s, which %s names, is not there", id, StateFile), restore)
		}
	}
	if k.current == nil || (k.state.Phase == Idle) != (k.successor == nil) {
		return keys{}, hint.Wrap(fmt.Errorf("load %s: phase %q does not go with the keys that it names", StateFile, k.state.Phase), restore)
	}
	return k, nil
}

// tidy brings the key files to what the state says, after it was written.
func (s *Signer) tidy(ctx context.Context, files map[string][]byte) error {
	if files[StateFile] == nil {
		return nil
	}
	if key, err := parse(files[CurrentFile]); err != nil || !key.Equal(s.keys.current) {
		data, err := encode(s.keys.current)
		if err == nil {
			err = s.store.Write(ctx, CurrentFile, data)
		}
		if err != nil {
			return fmt.Errorf("put the new signing key in its place: %w", err)
		}
	}
	if files[SuccessorFile] != nil && s.keys.successor == nil {
		if err := s.store.Remove(ctx, SuccessorFile); err != nil {
			return fmt.Errorf("remove the successor of the signing key: %w", err)
		}
	}
	return nil
}

// Generate makes a key as it is in a file.
func Generate() ([]byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return encode(key)
}

func encode(key ed25519.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func parse(data []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("it is a %T, not an Ed25519 key", key)
	}
	return private, nil
}
