package issuer

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/nationtech/fleetctl/internal/issuer/store"
)

// What names a device in a token: its machine user's name.
const (
	ClaimUsername = "preferred_username"
	DevicePrefix  = "device-"
)

// Scopes and claims as Zitadel's
// (https://zitadel.com/docs/apis/openidoauth/scopes, …/claims).
const (
	scopePrefix     = "urn:zitadel:iam:"
	scopeRoles      = "urn:zitadel:iam:org:projects:roles" // plural
	scopeAudience   = "urn:zitadel:iam:org:project:id:"    // + project id + ":aud"
	claimRoles      = "urn:zitadel:iam:org:project:roles"  // singular
	claimRolesOf    = "urn:zitadel:iam:org:project:"       // + project id + ":roles"
	claimOrgID      = "urn:zitadel:iam:user:resourceowner:id"
	claimOrgName    = "urn:zitadel:iam:user:resourceowner:name"
	claimOrgDomain  = "urn:zitadel:iam:user:resourceowner:primary_domain"
	audienceSuffix  = ":aud"
	zitadelAudience = "zitadel" // what a project may be called in the audience scope: the issuer itself
)

// audience is whom a token is for: its client, and the projects that it was asked for.
func (s *storage) audience(clientID string, scopes []string) []string {
	var out []string
	if clientID != "" {
		// People's clients are the fleet's own.
		out = append(out, clientID, s.facts.ProjectID)
	}
	for _, scope := range scopes {
		rest, ok := strings.CutPrefix(scope, scopeAudience)
		if !ok {
			continue
		}
		project, ok := strings.CutSuffix(rest, audienceSuffix)
		if project == zitadelAudience {
			project = s.facts.URL
		}
		if ok && project != "" && !slices.Contains(out, project) {
			out = append(out, project)
		}
	}
	if len(out) == 0 { // a token for nobody would be refused as one for everybody
		out = []string{s.facts.URL}
	}
	return out
}

// roles is the claim: role → organisation → its domain.
func (s *storage) roles(ctx context.Context, user string) (map[string]map[string]string, error) {
	grants, err := s.store.Grants(ctx, user)
	if err != nil {
		return nil, err
	}
	out := map[string]map[string]string{}
	for _, g := range grants {
		if g.Project != s.facts.ProjectID {
			continue
		}
		for _, role := range g.Roles {
			out[role] = map[string]string{s.facts.OrgID: orgDomain}
		}
	}
	return out, nil
}

// GetPrivateClaimsFromScopes is what an access token says besides the standard
// claims. Roles are in it when they were asked for, as with Zitadel.
func (s *storage) GetPrivateClaimsFromScopes(ctx context.Context, user, _ string, scopes []string) (map[string]any, error) {
	u, err := s.store.User(ctx, user)
	if err != nil {
		return nil, err
	}
	claims := map[string]any{
		ClaimUsername: u.Username, "name": u.Name,
		claimOrgID: s.facts.OrgID, claimOrgName: orgName, claimOrgDomain: orgDomain,
	}
	if !slices.Contains(scopes, scopeRoles) {
		return claims, nil
	}
	roles, err := s.roles(ctx, user)
	if err != nil {
		return nil, err
	}
	if len(roles) > 0 {
		claims[claimRoles] = roles
		claims[claimRolesOf+s.facts.ProjectID+":roles"] = roles
	}
	return claims, nil
}

// SetUserinfoFromScopes is superseded in op by SetUserinfoFromRequest.
func (s *storage) SetUserinfoFromScopes(context.Context, *oidc.UserInfo, string, string, []string) error {
	return nil
}

// SetUserinfoFromRequest fills an ID token.
func (s *storage) SetUserinfoFromRequest(ctx context.Context, info *oidc.UserInfo, request op.IDTokenRequest, scopes []string) error {
	return s.userinfo(ctx, info, request.GetSubject(), slices.Contains(scopes, scopeRoles))
}

// SetUserinfoFromToken answers the userinfo endpoint.
func (s *storage) SetUserinfoFromToken(ctx context.Context, info *oidc.UserInfo, tokenID, subject, _ string) error {
	if err := s.alive(ctx, tokenID, subject); err != nil {
		return err
	}
	return s.userinfo(ctx, info, subject, true)
}

func (s *storage) userinfo(ctx context.Context, info *oidc.UserInfo, subject string, withRoles bool) error {
	u, err := s.store.User(ctx, subject)
	if err != nil {
		return err
	}
	info.Subject, info.PreferredUsername, info.Name = u.ID, u.Username, u.Name
	if !withRoles {
		return nil
	}
	roles, err := s.roles(ctx, subject)
	if err != nil || len(roles) == 0 {
		return err
	}
	info.AppendClaims(claimRoles, roles)
	return nil
}

// SetIntrospectionFromToken: access tokens are JWTs, which everybody checks
// alone; here none is ever called active.
func (s *storage) SetIntrospectionFromToken(context.Context, *oidc.IntrospectionResponse, string, string, string) error {
	return errors.New("access tokens are checked by their signature")
}

// hasRole asks the database, not a token: what was taken away is gone at once.
func (s *storage) hasRole(ctx context.Context, user, role string) (bool, error) {
	u, err := s.store.User(ctx, user)
	if errors.Is(err, store.ErrNotFound) || err == nil && !u.Active {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	roles, err := s.roles(ctx, user)
	return roles[role] != nil, err
}
