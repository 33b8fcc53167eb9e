package cli

import (
	"context"
	"errors"

	"github.com/charmbracelet/huh"

	"github.com/nationtech/fleetctl/internal/hint"
)

// Confirm asks a yes-or-no question, default no. Without a terminal it is
// refused with exit code 4, naming the flag that answers instead.
func (f *Factory) Confirm(ctx context.Context, question, flag string) error {
	if !f.CanAsk() {
		return hint.WithCode(hint.New(question+" needs an answer, and there is no terminal", "add "+flag+" to go ahead without being asked"), hint.CodeDeclined)
	}
	var yes bool
	if err := f.form(ctx, huh.NewConfirm().Title(question).Affirmative("Yes").Negative("No").Value(&yes)); err != nil {
		return err
	}
	if !yes {
		return hint.WithCode(errors.New("declined; nothing was changed"), hint.CodeDeclined)
	}
	return nil
}

// Secret asks for a password or passphrase without echo. what is the question,
// flag names the way to give it without a terminal.
func (f *Factory) Secret(ctx context.Context, what, flag string) (string, error) {
	if !f.CanAsk() {
		return "", hint.WithCode(hint.New(what+" is needed, and there is no terminal", flag), hint.CodeDeclined)
	}
	var secret string
	err := f.form(ctx, huh.NewInput().Title(what).EchoMode(huh.EchoModePassword).Value(&secret))
	return secret, err
}

// askLine asks for a line of text. Without a terminal it is refused, naming the
// flag that gives it instead.
func (f *Factory) askLine(ctx context.Context, what, flag string) (string, error) {
	if !f.CanAsk() {
		return "", hint.WithCode(hint.New(what+" is needed, and there is no terminal", "give it with "+flag), hint.CodeDeclined)
	}
	var line string
	err := f.form(ctx, huh.NewInput().Title(what).Value(&line))
	return line, err
}

func (f *Factory) form(ctx context.Context, field huh.Field) error {
	err := huh.NewForm(huh.NewGroup(field)).WithInput(f.In).WithOutput(f.Err).WithShowHelp(false).RunWithContext(ctx)
	if errors.Is(err, huh.ErrUserAborted) {
		return hint.WithCode(errors.New("declined; nothing was changed"), hint.CodeDeclined)
	}
	return err
}
