package cli

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/identity/oidcclient"
	"github.com/nationtech/fleetctl/internal/identity/session"
	"github.com/nationtech/fleetctl/internal/identity/trust"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
)

// target is the control plane that a command is for: a context, or a server on
// this machine.
type target struct {
	name    string // of the context
	context session.Context
	local   *Endpoints // nil for a context
	// tokens are of a sign-in for this run alone; nil for a context's session.
	tokens apiclient.Session
}

// target finds it; the order is in the help of fleetctl.
func (f *Factory) target() (target, error) {
	if f.once != nil {
		return *f.once, nil
	}
	store, err := f.Sessions()
	if err != nil {
		return target{}, err
	}
	name, err := f.chosenContext()
	if err != nil {
		return target{}, err
	}
	if name == "" && f.chosenServerDir() != "" {
		local, err := f.Endpoints()
		return target{local: local}, err
	}
	all, err := store.Contexts()
	if err != nil {
		return target{}, err
	}
	if name == "" {
		name = all.Current
	}
	if name != "" {
		context, err := all.Get(name)
		return target{name: name, context: context}, err
	}
	local, err := f.Endpoints()
	if errors.Is(err, errNoServer) { // by somebody who named none
		err = hint.WithCode(hint.New("you are signed in to no control plane, and on this machine "+err.Error(),
			"sign in with: fleetctl login --server https://HOST:7443; or start one here with: fleet-server all"), hint.CodeAuth)
	}
	return target{local: local}, err
}

// chosenContext is the context that the person named for this command, or "".
// A flag counts for more than any variable.
func (f *Factory) chosenContext() (string, error) {
	switch {
	case f.global.context != "" && f.global.serverDir != "":
		return "", usageError(errors.New("--context and --server-dir name two control planes"), "leave one of them out")
	case f.global.context != "":
		return f.global.context, session.ValidateName(f.global.context)
	case f.global.serverDir != "":
		return "", nil
	}
	name := os.Getenv("FLEETCTL_CONTEXT")
	if name == "" {
		return "", nil
	}
	return name, session.ValidateName(name)
}

// source gives the tokens of a context's session.
func (f *Factory) source(name string, c session.Context) (*session.Source, error) {
	store, err := f.Sessions()
	if err != nil {
		return nil, err
	}
	return &session.Source{Store: store, Name: name, Now: time.Now,
		Connect: func(ctx context.Context) (session.Renewer, error) { return discover(ctx, c) }}, nil
}

// tokensOf gives the tokens of a target that is no local server.
func (f *Factory) tokensOf(t target) (apiclient.Session, error) {
	if t.tokens != nil {
		return t.tokens, nil
	}
	return f.source(t.name, t.context)
}

// discover finds a context's issuer.
func discover(ctx context.Context, c session.Context) (*oidcclient.Provider, error) {
	client, err := trust.Client([]byte(c.CAPEM))
	if err != nil {
		return nil, err
	}
	return oidcclient.Discover(ctx, oidcclient.Config{Issuer: c.Issuer, ClientID: c.ClientID, ProjectID: c.ProjectID, Scopes: c.Scopes, HTTPClient: client})
}

// Session is the person's sign-in at the control plane that this command is for,
// with a token that is good for a while, and the context that it belongs to.
func (f *Factory) Session(ctx context.Context) (session.Session, session.Context, error) {
	t, err := f.target()
	if err != nil {
		return session.Session{}, session.Context{}, err
	}
	if t.local != nil {
		return session.Session{}, session.Context{}, hint.WithCode(hint.New("nobody is signed in: a server's directory is used, with its administrator's token",
			"sign in with: fleetctl login, and leave --server-dir and FLEETCTL_SERVER_DIR out, or name the context with --context"), hint.CodeAuth)
	}
	source, err := f.source(t.name, t.context)
	if err != nil {
		return session.Session{}, t.context, err
	}
	s, err := source.Session(ctx)
	return s, t.context, err
}

// Token is the session's token.
func (f *Factory) Token(ctx context.Context) (string, error) {
	s, _, err := f.Session(ctx)
	return string(s.Bearer), err
}

func (f *Factory) completeContexts(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	store, err := f.Sessions()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	all, err := store.Contexts()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return all.Names(), cobra.ShellCompDirectiveNoFileComp
}
