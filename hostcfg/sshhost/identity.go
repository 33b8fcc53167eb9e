package sshhost

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/crypto/ssh"
)

// identity is a private key file to try.
type identity struct {
	path    string
	implied bool // one of ssh's default names: silence when it does not exist
}

// maxKeyFile is far above the size of any key, in bytes.
const maxKeyFile = 1 << 20

// fileSigner reads a key file. An encrypted key asks for its passphrase only
// when the server has said that it would accept the key. A certificate beside
// the key is offered before the bare key.
func (a *authenticator) fileSigner(id identity) ([]ssh.Signer, error) {
	text, err := os.ReadFile(id.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("no such file")
	}
	if err != nil {
		return nil, err
	}
	if len(text) > maxKeyFile {
		return nil, errors.New("not a key file")
	}
	signer, err := ssh.ParsePrivateKey(text)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		pub := locked.PublicKey
		if pub == nil { // the old PEM format does not show it
			if pub, err = readPublic(id.path + ".pub"); err != nil {
				return nil, fmt.Errorf("encrypted, and its public half cannot be read: %w", err)
			}
		}
		signer = &lockedSigner{auth: a, path: id.path, text: text, pub: pub}
	} else if err != nil {
		return nil, err
	}
	return append(a.certified(signer, id.path+"-cert.pub"), signer), nil
}

// certified gives the signer once more for each certificate of its key: in
// the file beside it, and those that the configuration names.
func (a *authenticator) certified(signer ssh.Signer, beside string) []ssh.Signer {
	var list []ssh.Signer
	for _, path := range append([]string{beside}, a.endpoint.certificates...) {
		pub, err := readPublic(path)
		if err != nil {
			continue // most keys have none
		}
		if c, ok := pub.(*ssh.Certificate); ok {
			if s, err := ssh.NewCertSigner(c, signer); err == nil {
				list = append(list, s)
			}
		}
	}
	return list
}

func readPublic(path string) (ssh.PublicKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pub, _, _, _, err := ssh.ParseAuthorizedKey(text)
	return pub, err
}

// lockedSigner is an encrypted key that is opened at its first use.
type lockedSigner struct {
	auth *authenticator
	path string
	text []byte
	pub  ssh.PublicKey
	open ssh.AlgorithmSigner
}

func (s *lockedSigner) PublicKey() ssh.PublicKey { return s.pub }

func (s *lockedSigner) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	return s.SignWithAlgorithm(rand, data, "")
}

func (s *lockedSigner) SignWithAlgorithm(rand io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	if err := s.unlock(); err != nil {
		return nil, err
	}
	return s.open.SignWithAlgorithm(rand, data, algorithm)
}

func (s *lockedSigner) unlock() error {
	for try := 0; s.open == nil; try++ {
		pass, err := s.auth.ask(Question{Kind: Passphrase, Detail: s.path})
		if err != nil {
			if s.auth.err == nil {
				s.auth.err = err
			}
			return err
		}
		signer, err := ssh.ParsePrivateKeyWithPassphrase(s.text, []byte(pass))
		switch {
		case err != nil && try+1 < passwordPrompts:
			continue
		case err != nil:
			s.auth.err = coded(fmt.Sprintf("%s: wrong passphrase for key %s", s.auth.endpoint.name(), s.path), "try it with: ssh-keygen -y -f "+shellWord(s.path))
			return s.auth.err
		case !bytes.Equal(signer.PublicKey().Marshal(), s.pub.Marshal()):
			return fmt.Errorf("key %s does not match %s.pub", s.path, s.path)
		}
		open, ok := signer.(ssh.AlgorithmSigner)
		if !ok {
			return fmt.Errorf("key %s: unsupported kind %s", s.path, signer.PublicKey().Type())
		}
		s.open = open
	}
	return nil
}
