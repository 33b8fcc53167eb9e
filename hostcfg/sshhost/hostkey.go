package sshhost

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"
)

// hostKeys checks the host key of one handshake.
type hostKeys struct {
	dialer   *dialer
	endpoint *endpoint
	ctx      context.Context // of the handshake that check is called in
	patience *patience
	db       *knownhosts.HostKeyDB // nil when no file exists
	err      error                 // what check refused with
}

func newHostKeys(d *dialer, e *endpoint, ctx context.Context, p *patience) (*hostKeys, error) {
	k := &hostKeys{dialer: d, endpoint: e, ctx: ctx, patience: p}
	var exist []string
	for _, f := range append(e.knownHosts[:len(e.knownHosts):len(e.knownHosts)], e.globalKnownHosts...) {
		if _, err := os.Stat(f); err == nil {
			exist = append(exist, f)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: known hosts: %w", e.name(), err)
		}
	}
	if len(exist) == 0 {
		return k, nil
	}
	db, err := knownhosts.NewDB(exist...)
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("%s: known hosts: %w", e.name(), err), "correct or remove the line that the message names")
	}
	k.db = db
	return k, nil
}

// algorithms are those of the keys that are known for the host, so that the
// server does not present another kind. Where no key is known, all kinds of
// key will do, after the certificates of an authority that is; a certificate
// of no known authority is not asked for, since nothing can be said of it.
func (k *hostKeys) algorithms() []string {
	var known []string
	if k.db != nil {
		known = k.db.HostKeyAlgorithms(k.endpoint.keyAddress())
	}
	if slices.ContainsFunc(known, isKey) {
		return known
	}
	for _, a := range ssh.SupportedAlgorithms().HostKeys {
		if isKey(a) {
			known = append(known, a)
		}
	}
	return known
}

// isKey says of a host key algorithm that it is not one of certificates.
func isKey(algorithm string) bool { return !strings.Contains(algorithm, "-cert-") }

// onlyAuthorities says that nothing but @cert-authority lines is known for the
// host: a plain key of it is then unknown, and not another than before.
func (k *hostKeys) onlyAuthorities() bool {
	known := k.db.HostKeyAlgorithms(k.endpoint.keyAddress())
	return len(known) > 0 && !slices.ContainsFunc(known, isKey)
}

// check is the ssh.HostKeyCallback.
func (k *hostKeys) check(_ string, _ net.Addr, key ssh.PublicKey) error {
	if k.err = k.decide(key); k.err != nil {
		k.err = &refusedKey{k.err}
	}
	return k.err
}

func (k *hostKeys) decide(key ssh.PublicKey) error {
	e := k.endpoint
	address := e.keyAddress()
	err := error(&xknownhosts.KeyError{})
	if k.db != nil {
		// Keys are looked up by name only, as OpenSSH does since 8.5
		// (CheckHostIP no): addresses are reused.
		err = k.db.HostKeyCallback()(address, noAddress, key)
	}
	var revoked *xknownhosts.RevokedError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &revoked):
		return &hint.Error{
			Err:  fmt.Errorf("%s: the host's key is marked as revoked in %s line %d", e.name(), revoked.Revoked.Filename, revoked.Revoked.Line),
			Hint: "do not connect: ask who revoked it", Code: hint.CodeAuth,
		}
	case knownhosts.IsHostKeyChanged(err):
		if isKey(key.Type()) && k.onlyAuthorities() {
			return k.unknown(key)
		}
		return k.changed(err, key)
	case knownhosts.IsHostUnknown(err):
		return k.unknown(key)
	}
	if cert, ok := key.(*ssh.Certificate); ok {
		return &hint.Error{
			Err: fmt.Errorf("%s: the host's certificate %q, signed by %s, is not accepted: %w",
				e.name(), cert.KeyId, ssh.FingerprintSHA256(cert.SignatureKey), err),
			Hint: "compare the signer with the @cert-authority lines of known_hosts, and the host's name with those that the certificate is for", Code: hint.CodeAuth,
		}
	}
	return hint.WithCode(fmt.Errorf("%s: host key: %w", e.name(), err), hint.CodeAuth)
}

// errHostKey matches every error about a host key that was refused.
var errHostKey = errors.New("host key refused")

type refusedKey struct{ err error }

func (e *refusedKey) Error() string        { return e.err.Error() }
func (e *refusedKey) Unwrap() error        { return e.err }
func (e *refusedKey) Is(target error) bool { return target == errHostKey }

var noAddress = &net.TCPAddr{IP: net.IPv4zero}

func (k *hostKeys) changed(err error, key ssh.PublicKey) error {
	var ke *xknownhosts.KeyError
	errors.As(err, &ke)
	known := ke.Want[0]
	for _, w := range ke.Want {
		if w.Key.Type() == key.Type() {
			known = w
		}
	}
	return &hint.Error{
		Err: fmt.Errorf("%s: HOST KEY CHANGED: it shows %s %s, but %s line %d has %s %s; the host was reinstalled, or something stands between you and it",
			k.endpoint.name(), key.Type(), ssh.FingerprintSHA256(key), known.Filename, known.Line, known.Key.Type(), ssh.FingerprintSHA256(known.Key)),
		Hint: fmt.Sprintf("if you know why it changed: ssh-keygen -f %s -R %s", shellWord(known.Filename), shellWord(knownhosts.Normalize(k.endpoint.keyAddress()))),
		Code: hint.CodeAuth,
	}
}

func (k *hostKeys) unknown(key ssh.PublicKey) error {
	e := k.endpoint
	file := ""
	if len(e.knownHosts) > 0 {
		file = e.knownHosts[0]
	}
	q := UnknownKey{
		Host: e.name(), Address: knownhosts.Normalize(e.keyAddress()),
		Type: key.Type(), Fingerprint: ssh.FingerprintSHA256(key), File: file,
	}
	switch e.strict {
	case strictYes:
		return &hint.Error{
			Err:  fmt.Errorf("%s: its host key %s %s is in no known_hosts file, and StrictHostKeyChecking is yes", e.name(), q.Type, q.Fingerprint),
			Hint: "compare the fingerprint with the host's, then: ssh-keyscan " + e.host + " >> " + shellWord(file), Code: hint.CodeAuth,
		}
	case strictAsk:
		if k.dialer.Asker == nil {
			return &hint.Error{
				Err:  fmt.Errorf("%s: unknown host key %s %s: %w", e.name(), q.Type, q.Fingerprint, errNoAsker),
				Hint: "run in a terminal, or first accept the key with: ssh " + e.host, Code: hint.CodeDeclined,
			}
		}
		resume := k.patience.pause()
		yes, err := k.dialer.Asker.Trust(k.ctx, q)
		resume()
		if err != nil {
			return hint.WithCode(fmt.Errorf("%s: ask about its host key: %w", e.name(), err), hint.CodeDeclined)
		}
		if !yes {
			return hint.WithCode(fmt.Errorf("%s: its host key %s was not trusted", e.name(), q.Fingerprint), hint.CodeDeclined)
		}
	}
	if file == "" || file == os.DevNull {
		return nil
	}
	if err := recordKey(file, q.Address, key, e.hashKnownHosts); err != nil {
		return fmt.Errorf("%s: record its host key: %w", e.name(), err)
	}
	k.dialer.Log.Info("host key recorded", "host", e.name(), "op", "trust", "fingerprint", q.Fingerprint, "file", file)
	return nil
}

// recordKey appends a line to a known_hosts file in one write, which the
// kernel does not mix with another's.
func recordKey(file, address string, key ssh.PublicKey, hashed bool) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	line := knownhosts.Line([]string{address}, key)
	if hashed {
		line = xknownhosts.HashHostname(knownhosts.Normalize(address)) + line[strings.IndexByte(line, ' '):]
	}
	if !endsLine(f) {
		line = "\n" + line
	}
	_, err = f.WriteString(line + "\n")
	return errors.Join(err, f.Close())
}

// endsLine says whether a file is empty or ends with a newline.
func endsLine(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return true
	}
	var last [1]byte
	_, err = f.ReadAt(last[:], info.Size()-1)
	return err != nil || last[0] == '\n'
}

// shellWord quotes a word only when that is necessary, for hints.
func shellWord(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@%+,=~") == "" {
		return s
	}
	return quote(s)
}
