package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/identity/session"
)

// signedOut is the result of `logout`.
type signedOut struct {
	SchemaVersion int    `json:"schemaVersion"`
	Context       string `json:"context"`
	Changed       bool   `json:"changed"` // false when nobody was signed in
}

func newLogoutCmd(f *Factory) *cobra.Command {
	return &cobra.Command{
		Use:   "logout",
		Short: "End the session, here and at the issuer",
		Long: `End the session, here and at the issuer. The context stays; sign in to it again
with fleetctl login. Tokens that were given out before are good until they expire,
a quarter of an hour at most with the embedded issuer.`,
		Example: "  fleetctl logout\n  fleetctl logout --context home",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runLogout(cmd.Context(), f) },
	}
}

func runLogout(ctx context.Context, f *Factory) error {
	t, err := f.target()
	if err != nil {
		return err
	}
	if t.local != nil {
		return usageError(errors.New("nobody is signed in: a server's directory is used, with its administrator's token"), "name a context with --context NAME; see: fleetctl context list")
	}
	result, err := f.signOut(ctx, t.name, t.context)
	if err != nil {
		return err
	}
	return f.Print(result, func(w io.Writer) error {
		text := "signed out of " + t.name
		if !result.Changed {
			text = "nobody was signed in to " + t.name
		}
		_, err := fmt.Fprintln(w, text)
		return err
	})
}

// signOut removes a session, then has the issuer end it: an issuer that does not
// answer must not keep anybody signed in on this machine.
func (f *Factory) signOut(ctx context.Context, name string, c session.Context) (signedOut, error) {
	result := signedOut{SchemaVersion: 1, Context: name}
	store, err := f.Sessions()
	if err != nil {
		return result, err
	}
	old, err := store.End(ctx, name)
	switch {
	case errors.Is(err, session.ErrSignedOut):
		return result, nil
	case err != nil:
		return result, err
	}
	result.Changed = true
	if old.Refresh == "" {
		return result, nil
	}
	issuer, err := discover(ctx, c)
	if err == nil {
		err = issuer.Revoke(ctx, old.Refresh)
	}
	if err != nil {
		return result, hint.Wrap(fmt.Errorf("signed out here, but the issuer was not told: %w", err),
			"have an administrator end your sessions at the issuer, if somebody else may have had this one")
	}
	return result, nil
}
