package issuer_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/nationtech/fleetctl/internal/issuer"
)

func TestDeviceCode(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.person("alice", issuer.RoleOperator)
	code, err := f.oauth.DeviceAuth(f.ctx)
	if err != nil {
		t.Fatal(err)
	}
	f.approve(code.UserCode, "alice")
	token, err := f.oauth.DeviceAccessToken(f.ctx, code)
	if err != nil {
		t.Fatal(err)
	}

	raw, _ := token.Extra("id_token").(string)
	id, err := f.oidc.Verifier(&oidc.Config{ClientID: f.CLIClientID}).Verify(f.ctx, raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := id.VerifyAccessToken(token.AccessToken); err != nil {
		t.Errorf("at_hash: %v", err)
	}
	var who struct {
		Name string `json:"preferred_username"`
	}
	if err := id.Claims(&who); err != nil || who.Name != "alice" {
		t.Errorf("ID token says %+v, %v", who, err)
	}
	claims, err := f.claims(token.AccessToken)
	if err != nil {
		t.Fatal(err)
	}
	assertRole(t, claims, issuer.RoleOperator, f.OrgID)
	if !slices.Contains(claims["aud"].([]any), any(f.CLIClientID)) || claims["client_id"] != f.CLIClientID {
		t.Errorf("audience %v, client %v", claims["aud"], claims["client_id"])
	}
	info, err := f.oidc.UserInfo(f.ctx, oauth2.StaticTokenSource(token))
	if err != nil || info.Subject != id.Subject {
		t.Errorf("userinfo: %+v, %v", info, err)
	}
}

func assertRole(t *testing.T, claims map[string]any, role, org string) {
	t.Helper()
	roles, _ := claims[rolesClaim].(map[string]any)
	orgs, _ := roles[role].(map[string]any)
	if len(roles) != 1 || orgs[org] == nil {
		t.Errorf("roles are %v, want only %s of %s", claims[rolesClaim], role, org)
	}
}

// Without the scope there are no roles: as with Zitadel.
func TestRolesAreAskedFor(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.person("alice", issuer.RoleOperator)
	f.oauth.Scopes = []string{"openid"}
	token := f.signIn("alice")
	claims, err := f.claims(token.AccessToken)
	if err != nil {
		t.Fatal(err)
	}
	if claims[rolesClaim] != nil || token.RefreshToken != "" {
		t.Errorf("roles %v, refresh token %t, neither was asked for", claims[rolesClaim], token.RefreshToken != "")
	}
}

func TestCodeWithPKCE(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.person("alice", issuer.RoleViewer)
	code, verifier := f.code("alice")
	token, err := f.oauth.Exchange(f.ctx, code, oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	claims, err := f.claims(token.AccessToken)
	if err != nil {
		t.Fatal(err)
	}
	assertRole(t, claims, issuer.RoleViewer, f.OrgID)

	// x/oauth2 refreshes by itself; what it got before is used up.
	token.Expiry = time.Now().Add(-time.Minute)
	next, err := f.oauth.TokenSource(f.ctx, token).Token()
	if err != nil {
		t.Fatal(err)
	}
	if next.RefreshToken == token.RefreshToken || next.AccessToken == token.AccessToken {
		t.Error("the refresh token was not rotated")
	}
	if claims, err = f.claims(next.AccessToken); err != nil {
		t.Fatal(err)
	}
	assertRole(t, claims, issuer.RoleViewer, f.OrgID)
}

// A confidential client, as a web app of another server is one.
func TestWebApp(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.person("root", issuer.RoleAdmin)
	admin := f.signIn("root").AccessToken
	app := f.must(admin, "POST", "/projects/"+f.ProjectID+"/apps/oidc", map[string]any{
		"name": "shop", "appType": "OIDC_APP_TYPE_WEB", "authMethodType": "OIDC_AUTH_METHOD_TYPE_BASIC",
		"redirectUris": []string{redirect}, "grantTypes": []string{"OIDC_GRANT_TYPE_AUTHORIZATION_CODE"},
	})
	f.oauth.ClientID, f.oauth.ClientSecret = app["clientId"].(string), app["clientSecret"].(string)
	f.oauth.Endpoint.AuthStyle = oauth2.AuthStyleInHeader
	code, verifier := f.code("root")
	wrong := f.oauth
	wrong.ClientSecret = "guessed"
	if _, err := wrong.Exchange(f.ctx, code, oauth2.VerifierOption(verifier)); err == nil {
		t.Error("a wrong client secret was taken")
	}
	code, verifier = f.code("root")
	token, err := f.oauth.Exchange(f.ctx, code, oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	if token.RefreshToken != "" {
		t.Error("a refresh token for a client without that grant")
	}
}

func TestMachine(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.person("root", issuer.RoleAdmin)
	admin := f.signIn("root").AccessToken
	m := f.enrol(admin, "pi", machineKeys()[0])
	got := f.mint(f.assertion(m, nil))
	claims, err := f.claims(got.AccessToken)
	if err != nil {
		t.Fatalf("%v, %+v", err, got)
	}
	assertRole(t, claims, issuer.RoleDevice, f.OrgID)
	if claims["preferred_username"] != "device-pi" || claims["sub"] != m.id {
		t.Errorf("claims %v", claims)
	}
	if aud := claims["aud"].([]any); len(aud) != 1 || aud[0] != f.ProjectID {
		t.Errorf("audience %v, want the project alone", aud)
	}
	// A device does not manage.
	if status, out := f.call(got.AccessToken, "POST", "/users/_search", map[string]any{}); status != http.StatusForbidden || out["code"] != 7.0 {
		t.Errorf("a device's token manages: %d %v", status, out)
	}
	// Rotation without a gap: the new key works before the old one goes.
	second := machine{id: m.id, key: machineKeys()[1]}
	second.keyID = f.must(admin, "POST", "/users/"+m.id+"/keys", map[string]any{"type": "KEY_TYPE_JSON", "publicKey": publicPEM(t, second.key)})["keyId"].(string)
	for _, one := range []machine{m, second} {
		if got := f.mint(f.assertion(one, nil)); got.Status != http.StatusOK {
			t.Errorf("key %s: %+v", one.keyID, got)
		}
	}
	f.must(admin, "DELETE", "/users/"+m.id+"/keys/"+m.keyID, nil)
	if got := f.mint(f.assertion(m, nil)); got.Status == http.StatusOK {
		t.Error("a deleted key still works")
	}
	f.must(admin, "POST", "/users/"+m.id+"/_deactivate", nil)
	if got := f.mint(f.assertion(second, nil)); got.Status == http.StatusOK {
		t.Error("a machine that is switched off still gets tokens")
	}
	f.must(admin, "POST", "/users/"+m.id+"/_reactivate", nil)
	if got := f.mint(f.assertion(second, nil)); got.Status != http.StatusOK {
		t.Errorf("a machine that is switched on again gets none: %+v", got)
	}
	f.must(admin, "DELETE", "/users/"+m.id, nil)
	if got := f.mint(f.assertion(second, nil)); got.Status == http.StatusOK {
		t.Error("a deleted machine still gets tokens")
	}
}

func TestManagement(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.person("root", issuer.RoleAdmin)
	f.person("vera", issuer.RoleViewer)
	admin, viewer := f.signIn("root").AccessToken, f.signIn("vera").AccessToken

	// Paging adds up to everything, without anything twice.
	for _, name := range []string{"a", "b", "c"} {
		f.must(admin, "POST", "/users/machine", map[string]any{"userName": "device-" + name, "name": name})
	}
	machines := []any{map[string]any{"typeQuery": map[string]any{"type": "TYPE_MACHINE"}}}
	seen := map[any]bool{}
	for offset := range 3 {
		out := f.must(admin, "POST", "/users/_search", map[string]any{"query": map[string]any{"offset": offset, "limit": 1}, "queries": machines})
		if total := out["details"].(map[string]any)["totalResult"]; total != "3" {
			t.Errorf("totalResult %v", total)
		}
		for _, u := range out["result"].([]any) {
			seen[u.(map[string]any)["userName"]] = true
		}
	}
	if len(seen) != 3 {
		t.Errorf("pages have %v", seen)
	}
	// 64-bit numbers are text in protobuf's JSON.
	out := f.must(admin, "POST", "/users/_search", map[string]any{"query": map[string]any{"offset": "2", "limit": "5"}, "queries": machines})
	if n := len(out["result"].([]any)); n != 1 {
		t.Errorf("%d after an offset of 2 of 3", n)
	}

	pat := f.must(admin, "POST", "/users/machine", map[string]any{"userName": "operator", "name": "operator"})["userId"].(string)
	f.must(admin, "POST", "/users/"+pat+"/grants", map[string]any{"projectId": f.ProjectID, "roleKeys": []string{issuer.RoleAdmin}})
	made := f.must(admin, "POST", "/users/"+pat+"/pats", map[string]any{"expirationDate": time.Now().Add(time.Hour)})
	token := made["token"].(string)
	f.must(token, "GET", "/orgs/me", nil)
	f.clock.advance(2 * time.Hour)
	if status, _ := f.call(token, "GET", "/orgs/me", nil); status != http.StatusUnauthorized {
		t.Errorf("an expired personal access token: %d", status)
	}

	for name, test := range map[string]struct {
		token, method, path string
		body                any
		status              int
		code                float64
	}{
		"nobody":           {"", "GET", "/orgs/me", nil, 401, 16},
		"unknown token":    {"x", "GET", "/orgs/me", nil, 401, 16},
		"missing user":     {admin, "GET", "/users/1", nil, 404, 5},
		"taken name":       {admin, "POST", "/users/machine", map[string]any{"userName": "device-a"}, 409, 6},
		"taken name, case": {admin, "POST", "/users/machine", map[string]any{"userName": "DEVICE-A"}, 400, 3},
		"hostile name":     {admin, "POST", "/users/machine", map[string]any{"userName": "device-*"}, 400, 3},
		"unknown role":     {admin, "POST", "/users/" + pat + "/grants", map[string]any{"projectId": f.ProjectID, "roleKeys": []string{"x"}}, 400, 3},
		"not a key":        {admin, "POST", "/users/" + pat + "/keys", map[string]any{"publicKey": []byte("x")}, 400, 3},
		"no key":           {admin, "POST", "/users/" + pat + "/keys", map[string]any{}, 400, 3},
		"unknown call":     {admin, "POST", "/policies", nil, 501, 12},
		"redirect script":  {admin, "POST", "/projects/" + f.ProjectID + "/apps/oidc", map[string]any{"name": "x", "redirectUris": []string{"javascript:alert(1)"}}, 400, 3},
	} {
		if status, out := f.call(test.token, test.method, test.path, test.body); status != test.status || out["code"] != test.code || out["message"] == "" || out["details"] == nil {
			t.Errorf("%s: %d %v", name, status, out)
		}
	}
	// What a role was, is asked of the database, not of the token.
	if status, _ := f.call(viewer, "POST", "/users/_search", map[string]any{}); status != http.StatusForbidden {
		t.Errorf("a viewer manages: %d", status)
	}
	people := f.must(admin, "POST", "/users/_search", map[string]any{"queries": []any{map[string]any{"userNameQuery": map[string]any{"userName": "vera"}}}})
	vera := people["result"].([]any)[0].(map[string]any)["id"].(string)
	for _, call := range [][2]string{{"DELETE", "/users/" + vera}, {"POST", "/users/" + vera + "/keys"}, {"POST", "/users/" + vera + "/pats"}} {
		if status, _ := f.call(admin, call[0], call[1], map[string]any{"publicKey": publicPEM(t, machineKeys()[0])}); status != http.StatusForbidden {
			t.Errorf("%v on a person: %d", call, status)
		}
	}
}

func TestRevocation(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.person("root", issuer.RoleAdmin)
	token := f.signIn("root")
	f.must(token.AccessToken, "GET", "/orgs/me", nil)
	revoke := func(value, client string) {
		t.Helper()
		if res := f.post(f.http, f.URL+"/revoke", url.Values{"token": {value}, "client_id": {client}}); res.Status != http.StatusOK {
			t.Fatalf("revoke: %d", res.Status)
		}
	}
	other := f.must(token.AccessToken, "POST", "/projects/"+f.ProjectID+"/apps/oidc", map[string]any{
		"name": "other", "authMethodType": "OIDC_AUTH_METHOD_TYPE_NONE", "appType": "OIDC_APP_TYPE_NATIVE",
		"grantTypes": []string{"OIDC_GRANT_TYPE_REFRESH_TOKEN", "OIDC_GRANT_TYPE_AUTHORIZATION_CODE"},
	})["clientId"].(string)
	// Another client neither uses nor revokes it.
	if got := f.token(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token.RefreshToken}, "client_id": {other}}); got.Error != "invalid_grant" {
		t.Errorf("another client's refresh: %+v", got)
	}
	revoke(token.RefreshToken, other)
	next := f.refresh(token.RefreshToken)
	if next.Status != http.StatusOK {
		t.Fatalf("another client revoked it: %+v", next)
	}
	revoke(next.AccessToken, f.CLIClientID)
	if status, _ := f.call(next.AccessToken, "GET", "/orgs/me", nil); status != http.StatusUnauthorized {
		t.Errorf("a revoked access token: %d", status)
	}
	f.must(token.AccessToken, "GET", "/orgs/me", nil) // that was another one
	revoke(next.RefreshToken, f.CLIClientID)
	if got := f.refresh(next.RefreshToken); got.Error != "invalid_grant" {
		t.Errorf("a revoked refresh token: %+v", got)
	}
	if status, _ := f.call(token.AccessToken, "GET", "/orgs/me", nil); status != http.StatusUnauthorized {
		t.Errorf("an access token of a revoked family: %d", status)
	}
	if _, err := f.oidc.UserInfo(f.ctx, oauth2.StaticTokenSource(token)); err == nil {
		t.Error("userinfo for a revoked token")
	}
}

func TestSigningKeyRotation(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.person("alice", issuer.RoleViewer)
	old := f.signIn("alice").AccessToken
	keys := func() []string {
		res := f.get(f.http, f.URL+"/keys")
		var set struct {
			Keys []map[string]any `json:"keys"`
		}
		if err := json.Unmarshal(res.Body, &set); err != nil {
			t.Fatalf("%d: %v", res.Status, err)
		}
		var ids []string
		for _, k := range set.Keys {
			for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "k"} {
				if k[private] != nil {
					t.Fatalf("the key set has a private part: %s", private)
				}
			}
			ids = append(ids, k["kid"].(string))
		}
		return ids
	}
	first := keys()
	restart := func(later time.Duration) {
		address := f.URL[len("https://"):]
		f.stop()
		f = startAt(t, f.dir, address, later)
	}
	restart(91 * 24 * time.Hour)
	both := keys()
	if len(first) != 1 || len(both) != 2 || both[1] != first[0] {
		t.Fatalf("keys were %v, are %v", first, both)
	}
	if _, err := f.claims(old); err != nil {
		t.Errorf("a token of the old key: %v", err)
	}
	restart(91*24*time.Hour + 3*time.Hour)
	if after := keys(); len(after) != 1 || after[0] != both[0] {
		t.Errorf("keys are %v, want the new one alone", after)
	}
}

func TestPeople(t *testing.T) {
	t.Parallel()
	f := start(t)
	people, err := issuer.OpenPeople(t.Context(), filepath.Join(f.dir, "issuer"))
	if err != nil {
		t.Fatal(err)
	}
	defer people.Close()
	for name, p := range map[string]issuer.NewPerson{
		"short password": {Username: "bob", Password: "short"},
		"device's name":  {Username: "device-x", Password: password},
		"device's role":  {Username: "bob", Password: password, Roles: []string{issuer.RoleDevice}},
		"hostile name":   {Username: "../x", Password: password},
		"taken":          {Username: "admin", Password: password},
	} {
		if _, err := people.Add(t.Context(), p); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if err := people.Delete(t.Context(), "admin"); err == nil {
		t.Error("the last administrator was deleted")
	}
	f.person("bob", issuer.RoleAdmin)
	token := f.signIn("bob")
	if err := people.SetPassword(t.Context(), "bob", "another long password"); err != nil {
		t.Fatal(err)
	}
	if got := f.refresh(token.RefreshToken); got.Error != "invalid_grant" {
		t.Errorf("a session outlived its password: %+v", got)
	}
	if err := people.Delete(t.Context(), "bob"); err != nil {
		t.Fatal(err)
	}
	if status, _ := f.call(token.AccessToken, "GET", "/orgs/me", nil); status != http.StatusUnauthorized {
		t.Errorf("a deleted administrator manages: %d", status)
	}
	list, err := people.List(t.Context())
	if err != nil || len(list) != 1 || list[0].Username != "admin" {
		t.Errorf("people: %+v, %v", list, err)
	}
}
