package sshhost

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/nationtech/fleetctl/internal/hint"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// passwordPrompts is how often a wrong password may be given, as in OpenSSH's
// NumberOfPasswordPrompts.
const passwordPrompts = 3

// authenticator offers one handshake's ways to authenticate: keys, then
// questions. Its methods are called by the SSH library, one at a time.
type authenticator struct {
	dialer   *dialer
	endpoint *endpoint
	ctx      context.Context // of the handshake
	patience *patience

	agentConn net.Conn
	tried     []string // what was offered, for the error
	skipped   []string // what could not be offered, and why
	asked     map[Question]bool
	asksKeys  bool  // signers was called
	err       error // an answer that could not be had
}

func (a *authenticator) methods() []ssh.AuthMethod {
	a.asked = map[Question]bool{}
	var list []ssh.AuthMethod
	if !a.endpoint.noKeys {
		list = append(list, ssh.PublicKeysCallback(a.signers))
	}
	if !a.endpoint.noInteractive {
		list = append(list, ssh.RetryableAuthMethod(ssh.KeyboardInteractive(a.interactive), passwordPrompts))
	}
	if !a.endpoint.noPassword {
		list = append(list, ssh.RetryableAuthMethod(ssh.PasswordCallback(a.password), passwordPrompts))
	}
	return list
}

func (a *authenticator) close() {
	if a.agentConn != nil {
		_ = a.agentConn.Close()
	}
}

// began says whether the server got as far as asking who we are.
func (a *authenticator) began(err error) bool {
	return a.asksKeys || len(a.tried) > 0 || len(a.skipped) > 0 || strings.Contains(err.Error(), "unable to authenticate")
}

// refused is the error when the server accepted nothing.
func (a *authenticator) refused(err error) error {
	e := a.endpoint
	msg := fmt.Errorf("%s: the host refused our identity: tried %s", e.name(), orNothing(a.tried))
	if len(a.skipped) > 0 {
		msg = fmt.Errorf("%w; not tried: %s", msg, strings.Join(a.skipped, ", "))
	}
	return &hint.Error{
		Err:  fmt.Errorf("%w (%w)", msg, err),
		Hint: "check the login name, or install your key: ssh-copy-id " + copyIDArgs(e),
		Code: hint.CodeAuth,
	}
}

func copyIDArgs(e *endpoint) string {
	target := shellWord(e.user + "@" + e.host)
	if e.port != 22 {
		return fmt.Sprintf("-p %d %s", e.port, target)
	}
	return target
}

func orNothing(list []string) string {
	if len(list) == 0 {
		return "nothing, for there is no key and nobody to ask"
	}
	return strings.Join(list, ", ")
}

// signers gives the keys in OpenSSH's order: those of the agent that the
// configuration names, the agent's others unless IdentitiesOnly, then files.
func (a *authenticator) signers() ([]ssh.Signer, error) {
	a.asksKeys = true
	var files []ssh.Signer
	for _, f := range a.endpoint.identities {
		s, err := a.fileSigner(f)
		if err != nil {
			if !f.implied {
				a.skipped = append(a.skipped, fmt.Sprintf("key %s (%v)", f.path, err))
			}
			continue
		}
		files = append(files, s...)
	}
	held := a.agentSigners()
	var first, others []ssh.Signer
	for _, s := range held {
		if i := slices.IndexFunc(files, func(f ssh.Signer) bool { return sameKey(f, s) }); i >= 0 {
			first = append(first, s)
			files = slices.Delete(files, i, i+1)
		} else if !a.endpoint.identitiesOnly {
			others = append(others, s)
		}
	}
	all := slices.Concat(first, others, files)
	for _, s := range all {
		a.tried = append(a.tried, "key "+ssh.FingerprintSHA256(s.PublicKey()))
	}
	return all, nil
}

func sameKey(a, b ssh.Signer) bool {
	return string(a.PublicKey().Marshal()) == string(b.PublicKey().Marshal())
}

func (a *authenticator) agentSigners() []ssh.Signer {
	socket := a.endpoint.agentSocket
	if socket == "" {
		return nil
	}
	conn, err := (&net.Dialer{}).DialContext(a.ctx, "unix", socket)
	if err != nil {
		a.skipped = append(a.skipped, fmt.Sprintf("ssh-agent (%v)", err))
		return nil
	}
	a.agentConn = conn
	signers, err := agent.NewClient(conn).Signers()
	if err != nil {
		a.skipped = append(a.skipped, fmt.Sprintf("ssh-agent (%v)", err))
		return nil
	}
	return signers
}

// ask puts a question once a handshake has use for it; the second time the
// same question comes, the answer before was wrong.
func (a *authenticator) ask(q Question) (string, error) {
	q.Host = a.endpoint.name()
	if a.asked[q] {
		a.dialer.forget(q)
	}
	a.asked[q] = true
	resume := a.patience.pause()
	defer resume()
	s, err := a.dialer.remember(a.ctx, q)
	if err != nil && !errors.Is(err, errNoAsker) {
		a.err = err
	}
	return string(s), err
}

func (a *authenticator) password() (string, error) {
	if a.dialer.Asker == nil {
		a.skip("password (nobody to ask)")
		return "", errNoAsker
	}
	a.try("password")
	return a.ask(Question{Kind: Password})
}

func (a *authenticator) interactive(_, instruction string, prompts []string, echo []bool) ([]string, error) {
	if len(prompts) == 0 {
		return nil, nil
	}
	if a.dialer.Asker == nil {
		a.skip("keyboard-interactive (nobody to ask)")
		return nil, errNoAsker
	}
	a.try("keyboard-interactive")
	answers := make([]string, len(prompts))
	for i, p := range prompts {
		text := strings.TrimSpace(strings.TrimSpace(instruction) + " " + strings.TrimSpace(p))
		s, err := a.ask(Question{Kind: Interactive, Detail: text, Echo: echo[i]})
		if err != nil {
			return nil, err
		}
		answers[i] = s
	}
	return answers, nil
}

func (a *authenticator) try(what string) {
	if !slices.Contains(a.tried, what) {
		a.tried = append(a.tried, what)
	}
}

func (a *authenticator) skip(what string) {
	if !slices.Contains(a.skipped, what) {
		a.skipped = append(a.skipped, what)
	}
}
