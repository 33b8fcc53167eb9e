package issuer

import (
	"cmp"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/nationtech/fleetctl/internal/issuer/store"
)

var roleKey = regexp.MustCompile(`^[a-z][a-z0-9_.-]{0,62}$`)

type nameQuery struct {
	NameQuery *struct {
		Name   string `json:"name"`
		Method string `json:"method"`
	} `json:"nameQuery"`
}

func (q nameQuery) matches(name string) bool {
	if q.NameQuery == nil {
		return true
	}
	return (&text{q.NameQuery.Name, q.NameQuery.Method}).matches(name)
}

func (m *management) searchProjects(c *call) (any, error) {
	var in struct {
		Query   page        `json:"query"`
		Queries []nameQuery `json:"queries"`
	}
	if err := c.body(&in); err != nil {
		return nil, err
	}
	projects, err := c.db.Projects(c.Context())
	if err != nil {
		return nil, err
	}
	return paged(m, in.Query, projects, func(p store.Project) bool {
		return !slices.ContainsFunc(in.Queries, func(q nameQuery) bool { return !q.matches(p.Name) })
	}, m.showProject), nil
}

func (m *management) showProject(p store.Project) any {
	return map[string]any{"id": p.ID, "name": p.Name, "state": "PROJECT_STATE_ACTIVE", "details": m.details(p.Created)}
}

func (m *management) addProject(c *call) (any, error) {
	var in struct {
		Name string `json:"name"`
	}
	if err := c.body(&in); err != nil {
		return nil, err
	}
	if in.Name == "" || len(in.Name) > 200 {
		return nil, invalid("a project needs a name of at most 200 bytes")
	}
	id, err := c.db.AddProject(c.Context(), in.Name)
	return map[string]any{"id": id, "details": m.details(m.storage.now().UTC())}, err
}

func (m *management) project(c *call) (any, error) {
	p, err := c.db.Project(c.Context(), c.PathValue("project"))
	return map[string]any{"project": m.showProject(p)}, err
}

func (m *management) searchRoles(c *call) (any, error) {
	var in struct {
		Query   page `json:"query"`
		Queries []struct {
			KeyQuery *struct {
				Key    string `json:"key"`
				Method string `json:"method"`
			} `json:"keyQuery"`
		} `json:"queries"`
	}
	if err := c.body(&in); err != nil {
		return nil, err
	}
	if _, err := c.db.Project(c.Context(), c.PathValue("project")); err != nil {
		return nil, err
	}
	roles, err := c.db.Roles(c.Context(), c.PathValue("project"))
	if err != nil {
		return nil, err
	}
	return paged(m, in.Query, roles, func(r store.Role) bool {
		for _, q := range in.Queries {
			if q.KeyQuery != nil && !(&text{q.KeyQuery.Key, q.KeyQuery.Method}).matches(r.Key) {
				return false
			}
		}
		return true
	}, func(r store.Role) any {
		return map[string]any{"key": r.Key, "displayName": r.Display, "group": r.Group, "details": m.details(r.Created)}
	}), nil
}

func (m *management) addRole(c *call) (any, error) {
	var in struct {
		RoleKey     string `json:"roleKey"`
		DisplayName string `json:"displayName"`
		Group       string `json:"group"`
	}
	if err := c.body(&in); err != nil {
		return nil, err
	}
	if !roleKey.MatchString(in.RoleKey) {
		return nil, invalid("%q is not a role key", in.RoleKey)
	}
	err := c.db.AddRole(c.Context(), c.PathValue("project"), store.Role{Key: in.RoleKey, Display: cmp.Or(in.DisplayName, in.RoleKey), Group: in.Group})
	return m.changed(), err
}

func (m *management) searchApps(c *call) (any, error) {
	var in struct {
		Query   page        `json:"query"`
		Queries []nameQuery `json:"queries"`
	}
	if err := c.body(&in); err != nil {
		return nil, err
	}
	if _, err := c.db.Project(c.Context(), c.PathValue("project")); err != nil {
		return nil, err
	}
	apps, err := c.db.Apps(c.Context(), c.PathValue("project"))
	if err != nil {
		return nil, err
	}
	return paged(m, in.Query, apps, func(a store.App) bool {
		return !slices.ContainsFunc(in.Queries, func(q nameQuery) bool { return !q.matches(a.Name) })
	}, m.showApp), nil
}

func (m *management) showApp(a store.App) any {
	out := map[string]any{"id": a.ID, "name": a.Name, "state": "APP_STATE_ACTIVE", "details": m.details(a.Created)}
	if a.Kind == store.APIApp {
		out["apiConfig"] = map[string]any{"clientId": a.ClientID, "authMethodType": "API_AUTH_METHOD_TYPE_BASIC"}
		return out
	}
	out["oidcConfig"] = struct {
		ClientID        string   `json:"clientId"`
		ResponseTypes   []string `json:"responseTypes"`
		AccessTokenType string   `json:"accessTokenType"`
		store.AppConfig
	}{a.ClientID, []string{"OIDC_RESPONSE_TYPE_CODE"}, "OIDC_TOKEN_TYPE_JWT", a.Config}
	return out
}

func (m *management) addOIDCApp(c *call) (any, error) {
	var in struct {
		Name string `json:"name"`
		store.AppConfig
	}
	if err := c.body(&in); err != nil {
		return nil, err
	}
	config, err := checkApp(in.AppConfig)
	if err != nil {
		return nil, err
	}
	return m.addApp(c, store.App{Name: in.Name, Kind: store.OIDCApp, Config: config}, config.AuthMethod == authBasic)
}

func (m *management) addAPIApp(c *call) (any, error) {
	var in struct {
		Name string `json:"name"`
	}
	if err := c.body(&in); err != nil {
		return nil, err
	}
	return m.addApp(c, store.App{Name: in.Name, Kind: store.APIApp}, true)
}

// addApp answers with the secret, which is not kept and not shown again.
func (m *management) addApp(c *call, app store.App, withSecret bool) (any, error) {
	if app.Name == "" || len(app.Name) > 200 {
		return nil, invalid("an app needs a name of at most 200 bytes")
	}
	app.Project = c.PathValue("project")
	secret := ""
	if withSecret {
		secret = store.Secret()
		app.SecretHash = store.Hash(secret)
	}
	app, err := c.db.AddApp(c.Context(), app)
	if err != nil {
		return nil, err
	}
	out := map[string]any{"appId": app.ID, "clientId": app.ClientID, "details": m.details(app.Created)}
	if withSecret {
		out["clientSecret"] = secret
	}
	return out, nil
}

func (m *management) setOIDCApp(c *call) (any, error) {
	var in store.AppConfig
	if err := c.body(&in); err != nil {
		return nil, err
	}
	config, err := checkApp(in)
	if err != nil {
		return nil, err
	}
	return m.changed(), c.db.SetAppConfig(c.Context(), c.PathValue("project"), c.PathValue("app"), config)
}

// checkApp refuses what would weaken a sign-in, and fills in Zitadel's defaults.
func checkApp(a store.AppConfig) (store.AppConfig, error) {
	a.AppType = cmp.Or(a.AppType, appWeb)
	a.AuthMethod = cmp.Or(a.AuthMethod, authBasic)
	if len(a.GrantTypes) == 0 {
		a.GrantTypes = []string{grantCode}
	}
	switch {
	case !slices.Contains([]string{appWeb, appUserAgent, appNative}, a.AppType):
		return a, invalid("appType %q is not known", a.AppType)
	case a.AuthMethod != authBasic && a.AuthMethod != authNone:
		return a, invalid("authMethodType %q is not served: use %s or %s", a.AuthMethod, authBasic, authNone)
	case a.DevMode:
		return a, invalid("devMode is not served: it lets any redirect through")
	}
	for _, grant := range a.GrantTypes {
		if _, ok := grantNames[grant]; !ok {
			return a, invalid("grantType %q is not served", grant)
		}
	}
	for _, raw := range slices.Concat(a.RedirectURIs, a.PostLogoutRedirectURIs) {
		if u, err := url.Parse(raw); err != nil || u.Scheme == "" || u.Fragment != "" || strings.EqualFold(u.Scheme, "javascript") || strings.EqualFold(u.Scheme, "data") {
			return a, invalid("redirect URI %q is not absolute, or has a fragment", raw)
		}
	}
	return a, nil
}
