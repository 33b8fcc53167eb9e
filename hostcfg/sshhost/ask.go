package sshhost

import (
	"context"
	"errors"
	"fmt"

	"github.com/nationtech/fleetctl/internal/hint"
)

// Asker puts questions to a person. One Asker may be shared by many hosts and
// is called from several goroutines; it decides how to take turns.
type Asker interface {
	// Answer asks for a line of text and returns it without its newline.
	Answer(ctx context.Context, q Question) (string, error)
	// Trust asks whether a host that was never seen before may be trusted.
	Trust(ctx context.Context, k UnknownKey) (bool, error)
}

// QuestionKind says what a Question is about, so that an Asker can answer
// some kinds from a flag.
type QuestionKind int

// The questions there are.
const (
	Passphrase   QuestionKind = iota // of a private key file; Detail is its path
	Password                         // of the login
	Interactive                      // keyboard-interactive; Detail is the server's prompt
	SudoPassword                     // of the login, for sudo
)

// Question is one question about one host.
type Question struct {
	Kind   QuestionKind
	Host   string // as in Host.Name
	Detail string
	Echo   bool // the answer may be shown while it is typed
}

// UnknownKey is the host key of a host that no known_hosts file has.
type UnknownKey struct {
	Host        string // as in Host.Name
	Address     string // as it would be written to known_hosts
	Type        string // such as ssh-ed25519
	Fingerprint string // SHA256:..., as ssh-keygen -l prints it
	File        string // where it will be recorded
}

// errNoAsker is what a question comes to when nobody can be asked.
var errNoAsker = errors.New("an answer is needed and there is nobody to ask")

// secret is text that must not reach a log or an error.
type secret string

func (secret) String() string   { return "[redacted]" }
func (secret) GoString() string { return "[redacted]" }

// answer asks and codes the outcome: nobody to ask and a refusal to answer
// both lead to exit code 4.
func (o *Options) answer(ctx context.Context, q Question) (secret, error) {
	what := map[QuestionKind]string{
		Passphrase:   "the passphrase of " + q.Detail,
		Password:     "the password",
		Interactive:  fmt.Sprintf("an answer to %q", q.Detail),
		SudoPassword: "the sudo password",
	}[q.Kind]
	if o.Asker == nil {
		return "", &hint.Error{
			Err:  fmt.Errorf("%s: %s is needed: %w", q.Host, what, errNoAsker),
			Hint: noAskerHint[q.Kind],
			Code: hint.CodeDeclined,
		}
	}
	s, err := o.Asker.Answer(ctx, q)
	if err != nil {
		return "", hint.WithCode(fmt.Errorf("%s: ask for %s: %w", q.Host, what, err), hint.CodeDeclined)
	}
	return secret(s), nil
}

var noAskerHint = map[QuestionKind]string{
	Passphrase:   "add the key to ssh-agent with ssh-add, or run in a terminal",
	Password:     "install a key with ssh-copy-id, or run in a terminal",
	Interactive:  "install a key with ssh-copy-id, or run in a terminal",
	SudoPassword: "run in a terminal, give --sudo-password-stdin, or allow passwordless sudo",
}
