package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/internal/identity/oidcclient"
	"github.com/nationtech/fleetctl/internal/identity/role"
	"github.com/nationtech/fleetctl/internal/identity/session"
)

// identity is what `whoami`, and `login` at its end, print.
type identity struct {
	SchemaVersion int              `json:"schemaVersion"`
	Context       string           `json:"context,omitempty"`
	Server        string           `json:"server,omitempty"`
	Issuer        string           `json:"issuer,omitempty"`
	User          *oidcclient.User `json:"user,omitempty"`
	// Roles of this fleet; the server checks them itself, each time.
	Roles []string `json:"roles"`
	// Expires is when the token does; it is renewed before that as long as
	// Renewable, and otherwise the session ends with it.
	Expires   *time.Time `json:"expires,omitempty"`
	Renewable bool       `json:"renewable"`
	SignedIn  *time.Time `json:"signedIn,omitempty"`
	// AdminToken says that no person is signed in: the token that a server on
	// this machine wrote for its administrator is used.
	AdminToken bool `json:"adminToken,omitempty"`
}

func newWhoamiCmd(f *Factory) *cobra.Command {
	return &cobra.Command{
		Use:     "whoami",
		Short:   "Show who is signed in, with which roles, and until when",
		Example: "  fleetctl whoami\n  fleetctl whoami --context home -o json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runWhoami(cmd.Context(), f) },
	}
}

func runWhoami(ctx context.Context, f *Factory) error {
	t, err := f.target()
	if err != nil {
		return err
	}
	if t.local != nil {
		who := identity{SchemaVersion: 1, Server: t.local.APIURL, Issuer: t.local.Issuer, Roles: []string{role.Admin}, AdminToken: true}
		return f.Print(who, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "the administrator's token of the server on this machine, %s\nsign in as yourself with: fleetctl login\n", t.local.APIURL)
			return err
		})
	}
	s, _, err := f.Session(ctx)
	if err != nil {
		return err
	}
	who := identityOf(t, s)
	return f.Print(who, func(w io.Writer) error { return who.write(w, time.Now()) })
}

func identityOf(t target, s session.Session) identity {
	roles := role.OfPeople(s.Roles)
	if roles == nil {
		roles = []string{}
	}
	return identity{SchemaVersion: 1, Context: t.name, Server: t.context.Server, Issuer: s.Issuer, User: &s.User, Roles: roles,
		Expires: &s.Expiry, Renewable: s.Refresh != "", SignedIn: &s.SignedIn}
}

func (i identity) write(w io.Writer, now time.Time) error {
	until := "the session ends " + i.Expires.Local().Format(time.DateTime) + ", and is not renewed"
	if i.Renewable {
		until = "renewed by itself; the token is good for another " + max(0, i.Expires.Sub(now)).Round(time.Second).String()
	}
	roles := strings.Join(i.Roles, ", ")
	if roles == "" {
		roles = "none: ask an administrator for one"
	}
	section(w, "", [][2]string{
		{"User", i.User.Greeting() + " (" + i.User.Username + ")"}, {"Roles", roles}, {"Context", i.Context}, {"Server", i.Server},
		{"Issuer", i.Issuer}, {"Signed in", i.SignedIn.Local().Format(time.DateTime)}, {"Session", until},
	})
	return nil
}
