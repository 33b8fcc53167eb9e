package provision

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/identity/zitadel"
)

// Wish is what is chosen of a fleet's identities.
type Wish struct {
	Project      string   // name; "" is ProjectName
	RedirectURIs []string // of the dashboard
	LogoutURIs   []string
	// Service is called for each service with its user's id and keys; it makes
	// and registers a key when the service has none, and says whether it did.
	Service func(ctx context.Context, s Service, userID string, keys []zitadel.Key) (changed bool, err error)
}

// Setup is what a fleet has at its issuer.
type Setup struct {
	Org               zitadel.Org
	Project           zitadel.Project
	CLIClientID       string
	DashboardClientID string
	APIClientID       string
	Users             map[string]string // service → user id
	Changes           []string          // what was made or changed, a line each
}

type setup struct {
	client *zitadel.Client
	Setup
}

// Make makes what is missing, and corrects what is different.
func Make(ctx context.Context, client *zitadel.Client, w Wish) (Setup, error) {
	s := &setup{client: client, Setup: Setup{Users: map[string]string{}}}
	var err error
	if s.Org, err = client.Org(ctx); err != nil {
		return s.Setup, err
	}
	if err := s.project(ctx, cmp.Or(w.Project, ProjectName)); err != nil {
		return s.Setup, err
	}
	if err := s.roles(ctx); err != nil {
		return s.Setup, err
	}
	if s.CLIClientID, err = s.oidcApp(ctx, CLIApp, zitadel.OIDCConfig{
		AppType: zitadel.AppNative, AuthMethod: zitadel.AuthNone,
		GrantTypes:   []string{zitadel.GrantDevice, zitadel.GrantCode, zitadel.GrantRefresh},
		RedirectURIs: []string{"http://127.0.0.1/callback", "http://localhost/callback"},
	}); err != nil {
		return s.Setup, err
	}
	if len(w.RedirectURIs) > 0 {
		// PKCE proves who exchanges the code; there is no secret to keep.
		if s.DashboardClientID, err = s.oidcApp(ctx, DashboardApp, zitadel.OIDCConfig{
			AppType: zitadel.AppWeb, AuthMethod: zitadel.AuthNone, GrantTypes: []string{zitadel.GrantCode, zitadel.GrantRefresh},
			RedirectURIs: w.RedirectURIs, PostLogoutRedirectURIs: w.LogoutURIs,
		}); err != nil {
			return s.Setup, err
		}
	}
	if err := s.apiApp(ctx); err != nil {
		return s.Setup, err
	}
	for _, service := range Services {
		if err := s.service(ctx, service, w.Service); err != nil {
			return s.Setup, err
		}
	}
	return s.Setup, nil
}

func (s *setup) changed(format string, args ...any) {
	s.Changes = append(s.Changes, fmt.Sprintf(format, args...))
}

func (s *setup) project(ctx context.Context, name string) error {
	found, err := s.client.Projects(ctx, name)
	switch {
	case err != nil:
		return err
	case len(found) > 1:
		return hint.New(fmt.Sprintf("organisation %s has %d projects called %s", s.Org.Name, len(found), name), "rename one, or name another project with --project")
	case len(found) == 1:
		s.Project = found[0]
		return nil
	}
	id, err := s.client.AddProject(ctx, name)
	s.Project = zitadel.Project{ID: id, Name: name, RoleAssertion: true}
	s.changed("made project %s (id %s)", name, id)
	return err
}

func (s *setup) roles(ctx context.Context) error {
	have, err := s.client.Roles(ctx, s.Project.ID)
	if err != nil {
		return err
	}
	for _, r := range roles {
		if slices.ContainsFunc(have, func(h zitadel.Role) bool { return h.Key == r.key }) {
			continue
		}
		if err := s.client.AddRole(ctx, s.Project.ID, zitadel.Role{Key: r.key, Display: r.display}); err != nil {
			return err
		}
		s.changed("made role %s", r.key)
	}
	return nil
}

func (s *setup) oidcApp(ctx context.Context, name string, want zitadel.OIDCConfig) (clientID string, err error) {
	apps, err := s.client.Apps(ctx, s.Project.ID, name)
	if err != nil {
		return "", err
	}
	if len(apps) == 0 {
		made, err := s.client.AddOIDCApp(ctx, s.Project.ID, name, want)
		s.changed("made app %s (client id %s)", name, made.ClientID)
		return made.ClientID, err
	}
	app := apps[0]
	if app.OIDC == nil {
		return "", hint.New("app "+name+" is there, but people cannot sign in to it: it is no OIDC app", "rename or remove it at the issuer, then run this again")
	}
	// Further redirects that somebody added stay: they may be for another dashboard.
	for _, list := range []struct{ want, have *[]string }{
		{&want.RedirectURIs, &app.OIDC.RedirectURIs}, {&want.PostLogoutRedirectURIs, &app.OIDC.PostLogoutRedirectURIs},
	} {
		*list.want = append(slices.Clone(*list.want), *list.have...)
	}
	if app.OIDC.Equal(want) {
		return app.ClientID(), nil
	}
	s.changed("changed app %s (client id %s)", name, app.ClientID())
	return app.ClientID(), s.client.SetOIDCApp(ctx, s.Project.ID, app.ID, want)
}

func (s *setup) apiApp(ctx context.Context) error {
	apps, err := s.client.Apps(ctx, s.Project.ID, APIApp)
	if err != nil {
		return err
	}
	if len(apps) > 0 {
		s.APIClientID = apps[0].ClientID()
		return nil
	}
	// Its secret is for introspection, which nobody here does: tokens are checked
	// by their signature.
	made, err := s.client.AddAPIApp(ctx, s.Project.ID, APIApp)
	s.APIClientID = made.ClientID
	s.changed("made app %s (client id %s)", APIApp, made.ClientID)
	return err
}

func (s *setup) service(ctx context.Context, service Service, key func(context.Context, Service, string, []zitadel.Key) (bool, error)) error {
	user, found, err := s.client.UserByName(ctx, service.User)
	if err != nil {
		return err
	}
	if !found {
		if user.ID, err = s.client.AddMachine(ctx, service.User, service.User, "Program of the fleet's control plane"); err != nil {
			return err
		}
		s.changed("made machine user %s (id %s)", service.User, user.ID)
	}
	s.Users[service.Name] = user.ID
	if err := s.grant(ctx, service, user.ID); err != nil {
		return err
	}
	keys, err := s.client.Keys(ctx, user.ID)
	if err != nil {
		return err
	}
	changed, err := key(ctx, service, user.ID, keys)
	if changed {
		s.changed("made a key of %s", service.User)
	}
	return err
}

func (s *setup) grant(ctx context.Context, service Service, user string) error {
	if len(service.Role) == 0 {
		return nil
	}
	grant, found, err := s.client.Grant(ctx, user, s.Project.ID)
	switch {
	case err != nil:
		return err
	case !found:
		err = s.client.AddGrant(ctx, user, s.Project.ID, service.Role)
	case slices.Equal(grant.Roles, service.Role):
		return nil
	default:
		err = s.client.SetGrant(ctx, user, grant.ID, service.Role)
	}
	s.changed("granted %s to %s", service.Role[0], service.User)
	return err
}
