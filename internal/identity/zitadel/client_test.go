package zitadel_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/identity/zitadel"
	"github.com/nationtech/fleetctl/internal/issuer/issuertest"
)

// client calls the embedded issuer as a machine with these roles.
func client(t *testing.T, i *issuertest.Issuer, org string, roles ...string) *zitadel.Client {
	t.Helper()
	source := i.Source(i.Machine("caller-"+strings.Join(append(roles, "x"), "-"), roles...))
	c, err := zitadel.New(zitadel.Config{
		Issuer: i.URL, OrgID: org, HTTPClient: i.HTTPClient(),
		Token: func(ctx context.Context) (zitadel.Token, error) {
			credential, err := source.Credential(ctx)
			return zitadel.Token(credential.Token.Reveal()), err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func publicKey(t *testing.T) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestEmbeddedProjectsRolesApps(t *testing.T) {
	i := issuertest.Start(t)
	c, ctx := client(t, i, i.OrgID, "fleet-admin"), t.Context()
	if org, err := c.Org(ctx); err != nil || org.ID != i.OrgID || org.Name == "" {
		t.Fatalf("organisation %+v, %v", org, err)
	}
	id, err := c.AddProject(ctx, "other")
	check(t, err)
	found, err := c.Projects(ctx, "other")
	if err != nil || len(found) != 1 || found[0].ID != id {
		t.Fatalf("found %+v, %v", found, err)
	}
	if _, err := c.Project(ctx, "999"); !zitadel.IsNotFound(err) {
		t.Errorf("a project that is not there: %v", err)
	}
	for range 2 { // the second time it is there
		check(t, c.AddRole(ctx, id, zitadel.Role{Key: "reader", Display: "Reader"}))
	}
	if roles, err := c.Roles(ctx, id); err != nil || !slices.Equal(roles, []zitadel.Role{{Key: "reader", Display: "Reader"}}) {
		t.Errorf("roles %+v, %v", roles, err)
	}

	web := zitadel.OIDCConfig{AppType: zitadel.AppWeb, AuthMethod: zitadel.AuthNone, GrantTypes: []string{zitadel.GrantCode},
		RedirectURIs: []string{"https://b.example.com/cb", "https://a.example.com/cb"}}
	made, err := c.AddOIDCApp(ctx, id, "web", web)
	if err != nil || made.Secret != "" {
		t.Fatalf("made %+v, %v", made, err)
	}
	apps, err := c.Apps(ctx, id, "web")
	if err != nil || len(apps) != 1 || apps[0].ClientID() != made.ClientID || !apps[0].OIDC.Equal(web) {
		t.Fatalf("apps %+v, %v", apps, err)
	}
	web.RedirectURIs = web.RedirectURIs[:1]
	if apps[0].OIDC.Equal(web) {
		t.Error("a redirect less counts as equal")
	}
	for range 2 {
		check(t, c.SetOIDCApp(ctx, id, made.ID, web))
	}
	if apps, err = c.Apps(ctx, id, "web"); err != nil || !apps[0].OIDC.Equal(web) {
		t.Errorf("after the change: %+v, %v", apps, err)
	}
	api, err := c.AddAPIApp(ctx, id, "api")
	if err != nil || api.Secret == "" || strings.Contains(fmt.Sprintf("%v %+v", api, api), string(api.Secret)) {
		t.Errorf("API app: no secret, or it shows; %v", err)
	}
	if apps, err = c.Apps(ctx, id, ""); err != nil || len(apps) != 2 {
		t.Errorf("all apps: %+v, %v", apps, err)
	}
}

func TestEmbeddedMachines(t *testing.T) {
	i := issuertest.Start(t)
	c, ctx := client(t, i, "", "fleet-admin"), t.Context()
	if _, found, err := c.UserByName(ctx, "device-pi"); found || err != nil {
		t.Fatalf("found %v, %v", found, err)
	}
	id, err := c.AddMachine(ctx, "device-pi", "pi", "a device")
	check(t, err)
	_, err = c.AddMachine(ctx, "device-pi-2", "pi-2", "")
	check(t, err)
	u, found, err := c.UserByName(ctx, "device-pi")
	if err != nil || !found || u.ID != id || !u.Active() || !u.IsMachine() || u.Machine.Name != "pi" {
		t.Fatalf("user %+v, %v, %v", u, found, err)
	}
	if admin, _, err := c.UserByName(ctx, "admin"); err != nil || admin.IsMachine() {
		t.Errorf("a person: %+v, %v", admin, err)
	}
	check(t, c.Deactivate(ctx, id))
	if u, _, _ = c.UserByName(ctx, "device-pi"); u.Active() {
		t.Error("still active")
	}
	check(t, c.Reactivate(ctx, id))

	check(t, c.AddGrant(ctx, id, i.ProjectID, []string{"fleet-device"}))
	grant, found, err := c.Grant(ctx, id, i.ProjectID)
	if err != nil || !found || !slices.Equal(grant.Roles, []string{"fleet-device"}) {
		t.Fatalf("grant %+v, %v", grant, err)
	}
	check(t, c.SetGrant(ctx, id, grant.ID, []string{"fleet-viewer"}))
	if grant, _, _ = c.Grant(ctx, id, i.ProjectID); !slices.Equal(grant.Roles, []string{"fleet-viewer"}) {
		t.Errorf("roles %v", grant.Roles)
	}
	if _, found, err := c.Grant(ctx, id, "999"); found || err != nil {
		t.Errorf("a grant elsewhere: %v, %v", found, err)
	}

	key, err := c.AddKey(ctx, id, publicKey(t), time.Now().Add(time.Hour))
	if err != nil || key.File != "" {
		t.Fatalf("key %+v, %v", key, err)
	}
	keys, err := c.Keys(ctx, id)
	if err != nil || len(keys) != 1 || keys[0].ID != key.ID || keys[0].Expires.IsZero() {
		t.Fatalf("keys %+v, %v", keys, err)
	}
	for range 2 {
		check(t, c.DeleteKey(ctx, id, key.ID))
	}
	if _, err := c.AddKey(ctx, id, "no key", time.Time{}); err == nil {
		t.Error("registered nonsense")
	}

	pat, token, err := c.AddPAT(ctx, id, time.Time{})
	if err != nil || token == "" {
		t.Fatal(err)
	}
	if pats, err := c.PATs(ctx, id); err != nil || len(pats) != 1 || pats[0].ID != pat {
		t.Errorf("tokens %+v, %v", pats, err)
	}
	check(t, c.DeletePAT(ctx, id, pat))
	check(t, c.DeleteUser(ctx, id))
	if err := c.DeleteUser(ctx, id); !zitadel.IsNotFound(err) {
		t.Errorf("removed twice: %v", err)
	}
}

// More than a page: nothing is lost, nothing comes twice.
func TestEmbeddedPages(t *testing.T) {
	i := issuertest.Start(t)
	c, ctx := client(t, i, "", "fleet-admin"), t.Context()
	project, err := c.AddProject(ctx, "many")
	check(t, err)
	const many = 205
	for n := range many {
		check(t, c.AddRole(ctx, project, zitadel.Role{Key: fmt.Sprintf("r-%03d", n)}))
	}
	roles, err := c.Roles(ctx, project)
	check(t, err)
	seen := map[string]bool{}
	for _, r := range roles {
		seen[r.Key] = true
	}
	if len(roles) != many || len(seen) != many {
		t.Errorf("%d roles, %d different ones", len(roles), len(seen))
	}
}

// The three usual causes are told apart, each with what to do.
func TestEmbeddedRefusals(t *testing.T) {
	i := issuertest.Start(t)
	for name, tc := range map[string]struct {
		client *zitadel.Client
		hint   string
	}{
		"missing role":       {client(t, i, "", "fleet-operator"), "fleet-admin"},
		"wrong organisation": {client(t, i, "123456", "fleet-admin"), "--org-id"},
		"bad token":          {fixed(t, i, "a.b.c"), "fleetctl login"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tc.client.Projects(t.Context(), "fleet")
			if err == nil || hint.Code(err) != hint.CodeAuth || !strings.Contains(hint.Of(err), tc.hint) {
				t.Errorf("error %v, hint %q, code %d", err, hint.Of(err), hint.Code(err))
			}
		})
	}
	c := fixed(t, i, "x")
	i.Stop()
	if _, err := c.Org(t.Context()); hint.Code(err) != hint.CodeUnreachable || hint.Of(err) == "" {
		t.Errorf("an issuer that is down: %v, hint %q", err, hint.Of(err))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Org(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

func fixed(t *testing.T, i *issuertest.Issuer, token zitadel.Token) *zitadel.Client {
	t.Helper()
	c, err := zitadel.New(zitadel.Config{Issuer: i.URL, HTTPClient: i.HTTPClient(), Token: func(context.Context) (zitadel.Token, error) { return token, nil }})
	check(t, err)
	return c
}
