package zitadel

import (
	"context"
	"net/http"
)

// Org is an organisation.
type Org struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Org gives the organisation that is acted in.
func (c *Client) Org(ctx context.Context) (Org, error) {
	var out struct{ Org Org }
	return out.Org, c.call(ctx, "look up the organisation", http.MethodGet, nil, &out, "orgs", "me")
}

// Project holds roles and apps; its id is the audience of tokens.
type Project struct {
	ID            string `json:"id"`
	Name          string `json:"name"`
	RoleAssertion bool   `json:"projectRoleAssertion"`
}

// Projects gives the projects of that name; "" for all.
func (c *Client) Projects(ctx context.Context, name string) ([]Project, error) {
	return search[Project](ctx, c, "list projects", named("nameQuery", "name", name), "projects")
}

// Project gives a project by its id.
func (c *Client) Project(ctx context.Context, id string) (Project, error) {
	var out struct{ Project Project }
	return out.Project, c.call(ctx, "look up project "+id, http.MethodGet, nil, &out, "projects", id)
}

// AddProject makes a project whose tokens carry roles, and gives its id.
func (c *Client) AddProject(ctx context.Context, name string) (string, error) {
	var out struct{ ID string }
	in := map[string]any{"name": name, "projectRoleAssertion": true}
	return out.ID, c.call(ctx, "make project "+name, http.MethodPost, in, &out, "projects")
}

// Role is one of a project's.
type Role struct {
	Key     string `json:"key"`
	Display string `json:"displayName"`
}

// Roles lists a project's roles.
func (c *Client) Roles(ctx context.Context, project string) ([]Role, error) {
	return search[Role](ctx, c, "list roles", nil, "projects", project, "roles")
}

// AddRole makes a role; one that is there is left as it is.
func (c *Client) AddRole(ctx context.Context, project string, r Role) error {
	in := map[string]any{"roleKey": r.Key, "displayName": r.Display}
	err := c.call(ctx, "make role "+r.Key, http.MethodPost, in, nil, "projects", project, "roles")
	if isThere(err) {
		return nil
	}
	return err
}

func named(query, field, value string) []any {
	if value == "" {
		return nil
	}
	return []any{equals(query, field, value)}
}
