package assets

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/nationtech/fleetctl/internal/hint"
)

// SSHKey is a key pair on disk.
type SSHKey struct {
	Path       string // the private half; the public one is Path + ".pub"
	Authorized string // the public half as a line of authorized_keys
}

// NewSSHKey makes an Ed25519 key pair in memory: the private half as OpenSSH
// PEM, the public half as a line of authorized_keys.
func NewSSHKey(comment string) (private []byte, authorized string, err error) {
	public, secret, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, "", fmt.Errorf("make an SSH key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(secret, comment)
	if err != nil {
		return nil, "", fmt.Errorf("encode an SSH key: %w", err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return nil, "", fmt.Errorf("encode an SSH key: %w", err)
	}
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
	if comment != "" {
		line += " " + comment
	}
	return pem.EncodeToMemory(block), line, nil
}

// EnsureSSHKey returns the key pair at path, making it when there is none.
// Twenty processes that start at once agree on one key: the private half
// appears under its name by a link that only the first can make.
func EnsureSSHKey(path, comment string) (SSHKey, error) {
	if key, err := LoadSSHKey(path); !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	private, _, err := NewSSHKey(comment)
	if err != nil {
		return SSHKey{}, err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return SSHKey{}, fmt.Errorf("make the SSH key's directory: %w", err)
	}
	if err := writeOnce(path, private, 0o600); err != nil {
		return SSHKey{}, fmt.Errorf("write the SSH key: %w", err)
	}
	return LoadSSHKey(path)
}

// writeOnce makes a file appear whole, or leaves the one that is there.
func writeOnce(path string, data []byte, mode fs.FileMode) error {
	temp, err := os.CreateTemp(filepath.Dir(path), ".id-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(data)
	if err := errors.Join(err, temp.Chmod(mode), temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err := os.Link(temp.Name(), path); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// LoadSSHKey reads the private key at path and makes sure that its public half
// lies beside it. A missing key gives an error that wraps fs.ErrNotExist.
func LoadSSHKey(path string) (SSHKey, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return SSHKey{}, fmt.Errorf("read the SSH key: %w", err)
	}
	public, err := publicHalf(path, data)
	if err != nil {
		return SSHKey{}, err
	}
	return SSHKey{Path: path, Authorized: public}, nil
}

// publicHalf prefers the .pub file, which also serves keys that are encrypted
// or live in an agent, and writes it where it is missing.
func publicHalf(path string, private []byte) (string, error) {
	if data, err := os.ReadFile(path + ".pub"); err == nil {
		if _, _, _, _, err := ssh.ParseAuthorizedKey(data); err != nil {
			return "", hint.Wrap(fmt.Errorf("%s.pub is not an SSH public key: %w", path, err), "make it again with: ssh-keygen -y -f "+path)
		}
		return strings.TrimSpace(string(data)), nil
	}
	signer, err := ssh.ParsePrivateKey(private)
	if err != nil {
		return "", hint.Wrap(fmt.Errorf("%s is not an SSH private key that can be read: %w", path, err), "name another one with --ssh-key FILE")
	}
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	if err := writeOnce(path+".pub", []byte(line+"\n"), 0o644); err != nil {
		return "", fmt.Errorf("write the SSH public key: %w", err)
	}
	return line, nil
}
