package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// Kinds of apps.
const (
	OIDCApp = "oidc"
	APIApp  = "api"
)

// Project is what roles and apps belong to.
type Project struct {
	ID      string
	Name    string
	Created time.Time
}

// Role is something that a user can be granted in a project.
type Role struct {
	Key     string
	Display string
	Group   string
	Created time.Time
}

// App is a client of the issuer.
type App struct {
	ID         string
	Project    string
	Name       string
	Kind       string
	ClientID   string
	SecretHash string // "" for a public client
	Config     AppConfig
	Created    time.Time
}

// AppConfig is what may be changed of an OIDC app; values as Zitadel spells them.
type AppConfig struct {
	RedirectURIs           []string `json:"redirectUris,omitempty"`
	PostLogoutRedirectURIs []string `json:"postLogoutRedirectUris,omitempty"`
	GrantTypes             []string `json:"grantTypes,omitempty"`
	AppType                string   `json:"appType,omitempty"`
	AuthMethod             string   `json:"authMethodType,omitempty"`
	DevMode                bool     `json:"devMode,omitempty"`
}

func scanProject(row scanner) (p Project, err error) {
	var created int64
	err = row.Scan(&p.ID, &p.Name, &created)
	p.Created = fromMillis(created)
	return p, notFound(err)
}

// AddProject makes a project and returns its id.
func (s *Store) AddProject(ctx context.Context, name string) (string, error) {
	id := NewID()
	if _, err := s.exec(ctx, "INSERT INTO projects VALUES (?, ?, ?)", id, name, millis(s.now())); err != nil {
		return "", fmt.Errorf("add project %s: %w", name, exists(err))
	}
	return id, nil
}

// Project reads a project by id.
func (s *Store) Project(ctx context.Context, id string) (Project, error) {
	return scanProject(s.read.QueryRowContext(ctx, "SELECT id, name, created FROM projects WHERE id = ?", id))
}

// Projects lists all projects, the oldest first.
func (s *Store) Projects(ctx context.Context) ([]Project, error) {
	return list(ctx, s.read, scanProject, "SELECT id, name, created FROM projects ORDER BY created, id")
}

// AddRole adds a role to a project.
func (s *Store) AddRole(ctx context.Context, project string, r Role) error {
	_, err := s.exec(ctx, "INSERT INTO roles VALUES (?, ?, ?, ?, ?)", project, r.Key, r.Display, r.Group, millis(s.now()))
	if err != nil {
		return fmt.Errorf("add role %s: %w", r.Key, exists(err))
	}
	return nil
}

// Roles lists a project's roles.
func (s *Store) Roles(ctx context.Context, project string) ([]Role, error) {
	return list(ctx, s.read, func(row scanner) (r Role, err error) {
		var created int64
		err = row.Scan(&r.Key, &r.Display, &r.Group, &created)
		r.Created = fromMillis(created)
		return r, err
	}, "SELECT key, display, grp, created FROM roles WHERE project = ? ORDER BY key", project)
}

const appColumns = "id, project, name, kind, client_id, secret_hash, config, created"

func scanApp(row scanner) (a App, err error) {
	var config string
	var created int64
	if err := row.Scan(&a.ID, &a.Project, &a.Name, &a.Kind, &a.ClientID, &a.SecretHash, &config, &created); err != nil {
		return a, notFound(err)
	}
	a.Created = fromMillis(created)
	return a, json.Unmarshal([]byte(config), &a.Config)
}

// AddApp stores a under new ids, and returns it with them.
func (s *Store) AddApp(ctx context.Context, a App) (App, error) {
	a.ID, a.ClientID, a.Created = NewID(), NewID(), s.now()
	config, err := json.Marshal(a.Config)
	if err != nil {
		return a, fmt.Errorf("encode app %s: %w", a.Name, err)
	}
	_, err = s.exec(ctx, "INSERT INTO apps ("+appColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		a.ID, a.Project, a.Name, a.Kind, a.ClientID, a.SecretHash, string(config), millis(a.Created))
	if err != nil {
		return a, fmt.Errorf("add app %s: %w", a.Name, exists(err))
	}
	return a, nil
}

// SetAppConfig replaces what may be changed of an app.
func (s *Store) SetAppConfig(ctx context.Context, project, id string, c AppConfig) error {
	config, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode app: %w", err)
	}
	return s.mustChange(ctx, "UPDATE apps SET config = ? WHERE id = ? AND project = ? AND kind = ?", string(config), id, project, OIDCApp)
}

// Client reads an app by its client id.
func (s *Store) Client(ctx context.Context, clientID string) (App, error) {
	return scanApp(s.read.QueryRowContext(ctx, "SELECT "+appColumns+" FROM apps WHERE client_id = ?", clientID))
}

// Apps lists a project's apps, the oldest first.
func (s *Store) Apps(ctx context.Context, project string) ([]App, error) {
	return list(ctx, s.read, scanApp, "SELECT "+appColumns+" FROM apps WHERE project = ? ORDER BY created, id", project)
}
