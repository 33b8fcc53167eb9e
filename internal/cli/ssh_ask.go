package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/charmbracelet/huh"

	"github.com/nationtech/fleetctl/hostcfg/sshhost"
	"github.com/nationtech/fleetctl/internal/hint"
)

// sshAsker puts the questions of SSH connections to the person at the
// terminal, one at a time however many hosts ask.
type sshAsker struct {
	factory      *Factory
	acceptNew    bool
	sudoPassword secretLine // from stdin; empty means ask

	turn sync.Mutex
}

// secretLine is a password that was read; it never shows in a log.
type secretLine string

func (secretLine) String() string { return "[redacted]" }

// Answer implements sshhost.Asker.
func (a *sshAsker) Answer(ctx context.Context, q sshhost.Question) (string, error) {
	if q.Kind == sshhost.SudoPassword && a.sudoPassword != "" {
		return string(a.sudoPassword), nil
	}
	a.turn.Lock()
	defer a.turn.Unlock()
	switch q.Kind {
	case sshhost.Passphrase:
		return a.factory.Secret(ctx, "Passphrase of "+q.Detail, "add the key to ssh-agent with ssh-add, or run in a terminal")
	case sshhost.Password:
		return a.factory.Secret(ctx, "Password of "+q.Host, "install a key with ssh-copy-id, or run in a terminal")
	case sshhost.SudoPassword:
		return a.factory.Secret(ctx, "sudo password on "+q.Host, "give --sudo-password-stdin, allow passwordless sudo, or run in a terminal")
	}
	if !a.factory.CanAsk() {
		return "", hint.WithCode(hint.New(fmt.Sprintf("%s asks %q, and there is no terminal", q.Host, q.Detail), "install a key with ssh-copy-id, or run in a terminal"), hint.CodeDeclined)
	}
	var answer string
	input := huh.NewInput().Title(q.Host + ": " + strings.TrimSpace(q.Detail)).Value(&answer)
	if !q.Echo {
		input = input.EchoMode(huh.EchoModePassword)
	}
	return answer, a.factory.form(ctx, input)
}

// Trust implements sshhost.Asker: trust on first use.
func (a *sshAsker) Trust(ctx context.Context, k sshhost.UnknownKey) (bool, error) {
	if a.acceptNew {
		fmt.Fprintf(a.factory.Err, "%s: trusting its %s key %s (recorded in %s)\n", k.Host, k.Type, k.Fingerprint, k.File)
		return true, nil
	}
	a.turn.Lock()
	defer a.turn.Unlock()
	err := a.factory.Confirm(ctx, fmt.Sprintf("%s was never seen before. Its %s key is %s. Trust it?", k.Host, k.Type, k.Fingerprint), "--accept-new-host-key")
	if hint.Code(err) == hint.CodeDeclined && a.factory.CanAsk() {
		return false, nil
	}
	return err == nil, err
}

// readSecretLine reads one line without its newline.
func readSecretLine(r io.Reader) (secretLine, error) {
	line, err := bufio.NewReader(r).ReadString('\n')
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		if err == nil || errors.Is(err, io.EOF) {
			err = errors.New("the input is empty")
		}
		return "", err
	}
	return secretLine(line), nil
}
