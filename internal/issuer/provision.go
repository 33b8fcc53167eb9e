package issuer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nationtech/fleetctl/internal/issuer/store"
	"github.com/nationtech/fleetctl/internal/secretfile"
)

const (
	adminName         = "admin"
	adminPasswordName = "admin-password"
)

// provision makes what every fleet has: organisation, project, roles, the
// client of the command line, and a first administrator. What is there stays as
// it is.
func provision(ctx context.Context, db *store.Store, cfg Config) (Facts, error) {
	f := Facts{URL: cfg.URL}
	var err error
	if f.OrgID, err = db.Setting(ctx, "org_id", store.NewID); err != nil {
		return f, err
	}
	if f.ProjectID, err = ensureProject(ctx, db); err != nil {
		return f, err
	}
	for _, role := range []store.Role{
		{Key: RoleAdmin, Display: "Fleet administrator"},
		{Key: RoleOperator, Display: "Fleet operator"},
		{Key: RoleViewer, Display: "Fleet viewer"},
		{Key: RoleDevice, Display: "Device"},
	} {
		if err := db.AddRole(ctx, f.ProjectID, role); err != nil && !errors.Is(err, store.ErrExists) {
			return f, err
		}
	}
	if f.CLIClientID, err = ensureCLI(ctx, db, f.ProjectID); err != nil {
		return f, err
	}
	if f.DashboardClientID, err = ensureDashboard(ctx, db, f.ProjectID); err != nil {
		return f, err
	}
	return f, ensureAdmin(ctx, db, cfg.Dir, &f)
}

func ensureProject(ctx context.Context, db *store.Store) (string, error) {
	projects, err := db.Projects(ctx)
	if err != nil {
		return "", fmt.Errorf("list projects: %w", err)
	}
	for _, p := range projects {
		if p.Name == ProjectName {
			return p.ID, nil
		}
	}
	return db.AddProject(ctx, ProjectName)
}

func ensureCLI(ctx context.Context, db *store.Store, project string) (string, error) {
	return ensureApp(ctx, db, project, CLIAppName, store.AppConfig{
		AppType: appNative, AuthMethod: authNone, GrantTypes: []string{grantDevice, grantCode, grantRefresh},
		RedirectURIs: []string{"http://127.0.0.1/callback", "http://localhost/callback"},
	})
}

// ensureDashboard makes a client that has nowhere to send people yet: where the
// dashboard will be is not known before it listens.
func ensureDashboard(ctx context.Context, db *store.Store, project string) (string, error) {
	return ensureApp(ctx, db, project, DashboardAppName, dashboardConfig(nil, nil))
}

func dashboardConfig(redirect, signedOut []string) store.AppConfig {
	return store.AppConfig{AppType: appUserAgent, AuthMethod: authNone, GrantTypes: []string{grantCode, grantRefresh},
		RedirectURIs: redirect, PostLogoutRedirectURIs: signedOut}
}

func ensureApp(ctx context.Context, db *store.Store, project, name string, config store.AppConfig) (string, error) {
	apps, err := db.Apps(ctx, project)
	if err != nil {
		return "", fmt.Errorf("list apps: %w", err)
	}
	for _, a := range apps {
		if a.Name == name {
			return a.ClientID, nil
		}
	}
	app, err := db.AddApp(ctx, store.App{Project: project, Name: name, Kind: store.OIDCApp, Config: config})
	return app.ClientID, err
}

// SetDashboard says where the dashboard is: the URIs that people may be sent
// back to when they signed in, and out.
func (i *Issuer) SetDashboard(ctx context.Context, redirect, signedOut []string) error {
	app, err := i.store.Client(ctx, i.DashboardClientID)
	if err != nil {
		return fmt.Errorf("look up the dashboard's client: %w", err)
	}
	if err := i.store.SetAppConfig(ctx, i.ProjectID, app.ID, dashboardConfig(redirect, signedOut)); err != nil {
		return fmt.Errorf("set the dashboard's client: %w", err)
	}
	return nil
}

// ensureAdmin makes the first user of an empty issuer. Its password is in a
// file that only the server's user reads; the file goes when the password is
// changed.
func ensureAdmin(ctx context.Context, db *store.Store, dir string, f *Facts) error {
	path := filepath.Join(dir, adminPasswordName)
	users, err := db.Users(ctx)
	if err != nil {
		return fmt.Errorf("list users: %w", err)
	}
	if len(users) > 0 {
		if _, err := os.Stat(path); err == nil {
			f.AdminPasswordFile = path
		}
		return finishAdmin(ctx, db, users, f.ProjectID)
	}
	password := store.Secret()[:20] // 120 bits
	// The file first: a user whose password nobody knows would lock everyone out.
	if err := secretfile.Write(path, []byte(password+"\n")); err != nil {
		return err
	}
	if _, err := AddPerson(ctx, db, f.ProjectID, NewPerson{Username: adminName, Name: "Administrator", Password: password, Roles: []string{RoleAdmin}}); err != nil {
		return err
	}
	f.AdminPasswordFile, f.AdminPassword = path, password
	return nil
}

// finishAdmin grants what a first start that was killed did not come to.
func finishAdmin(ctx context.Context, db *store.Store, users []store.User, project string) error {
	if len(users) != 1 || users[0].Username != adminName {
		return nil
	}
	if _, err := db.AddGrant(ctx, users[0].ID, project, []string{RoleAdmin}); err != nil && !errors.Is(err, store.ErrExists) {
		return err
	}
	return nil
}
