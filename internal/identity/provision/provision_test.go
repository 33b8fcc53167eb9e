package provision_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/devicekey"
	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/identity/provision"
	"github.com/nationtech/fleetctl/internal/identity/zitadel"
	"github.com/nationtech/fleetctl/internal/issuer/issuertest"
	"github.com/nationtech/fleetctl/internal/secretfile"
)

func admin(t *testing.T, i *issuertest.Issuer) *zitadel.Client {
	t.Helper()
	source := i.Source(i.Machine("setup", "fleet-admin"))
	c, err := zitadel.New(zitadel.Config{Issuer: i.URL, HTTPClient: i.HTTPClient(), Token: func(ctx context.Context) (zitadel.Token, error) {
		got, err := source.Credential(ctx)
		return zitadel.Token(got.Token.Reveal()), err
	}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// service registers one public key for each service that has none.
func service(t *testing.T, c *zitadel.Client, public string) func(context.Context, provision.Service, string, []zitadel.Key) (bool, error) {
	return func(ctx context.Context, s provision.Service, user string, keys []zitadel.Key) (bool, error) {
		if len(keys) > 0 {
			return false, nil
		}
		_, err := c.AddKey(ctx, user, public, time.Time{})
		return true, err
	}
}

func TestMakeTwice(t *testing.T) {
	i := issuertest.Start(t)
	c := admin(t, i)
	_, public := identity(t)
	wish := provision.Wish{RedirectURIs: []string{"https://fleet.example.com/auth/callback"}, Service: service(t, c, public)}
	first, err := provision.Make(t.Context(), c, wish)
	if err != nil {
		t.Fatal(err)
	}
	if first.Project.ID != i.ProjectID || first.CLIClientID != i.CLIClientID {
		t.Errorf("the embedded issuer's own project and app were not found: %+v", first)
	}
	if first.DashboardClientID == "" || first.APIClientID == "" || len(first.Users) != 3 || len(first.Changes) == 0 {
		t.Errorf("made %+v", first)
	}
	second, err := provision.Make(t.Context(), c, wish)
	if err != nil || len(second.Changes) > 0 {
		t.Errorf("the second run changed %q, %v", second.Changes, err)
	}
	second.Changes = first.Changes
	if first.DashboardClientID != second.DashboardClientID || first.APIClientID != second.APIClientID || first.Users["operator"] != second.Users["operator"] {
		t.Errorf("ids differ:\n%+v\n%+v", first, second)
	}

	// Another dashboard's redirect is added, and the first one stays.
	wish.RedirectURIs = []string{"https://other.example.com/auth/callback"}
	third, err := provision.Make(t.Context(), c, wish)
	if err != nil || len(third.Changes) != 1 {
		t.Errorf("changed %q, %v", third.Changes, err)
	}
	apps, err := c.Apps(t.Context(), i.ProjectID, provision.DashboardApp)
	if err != nil || len(apps[0].OIDC.RedirectURIs) != 2 {
		t.Errorf("redirects %+v, %v", apps, err)
	}
}

func TestDeviceAccount(t *testing.T) {
	i := issuertest.Start(t)
	c := admin(t, i)
	d, ctx := provision.Devices{Client: c, Project: i.ProjectID}, t.Context()
	if err := d.Check(ctx); err != nil {
		t.Fatal(err)
	}
	if a, err := d.Look(ctx, "pi"); err != nil || a.UserID != "" {
		t.Fatalf("before: %+v, %v", a, err)
	}
	made, err := d.Ensure(ctx, "pi")
	if err != nil {
		t.Fatal(err)
	}
	store, public := identity(t)
	key, err := d.Register(ctx, made.UserID, public)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Bind(made.UserID, key.ID); err != nil {
		t.Fatal(err)
	}
	a, err := d.Ensure(ctx, "pi")
	if err != nil || a.UserID != made.UserID || !a.Good(key.ID) || a.Good("1") {
		t.Fatalf("after: %+v, %v", a, err)
	}
	// The device's own key gets a token.
	source := i.Source(store.Dir + "/identity.json")
	if _, err := source.Credential(ctx); err != nil {
		t.Fatal(err)
	}

	// A role too many is taken away, an account that was switched off comes back.
	grant, _, err := c.Grant(ctx, a.UserID, i.ProjectID)
	if err == nil {
		err = errors.Join(c.SetGrant(ctx, a.UserID, grant.ID, []string{"fleet-admin", "fleet-device"}), c.Deactivate(ctx, a.UserID))
	}
	if err != nil {
		t.Fatal(err)
	}
	if a, err = d.Look(ctx, "pi"); err != nil || a.Granted || a.Active || a.Good(key.ID) {
		t.Errorf("with a role too many and switched off: %+v, %v", a, err)
	}
	if a, err = d.Ensure(ctx, "pi"); err != nil || !a.Good(key.ID) {
		t.Errorf("set right: %+v, %v", a, err)
	}
	if grant, _, _ = c.Grant(ctx, a.UserID, i.ProjectID); !slices.Equal(grant.Roles, []string{"fleet-device"}) {
		t.Errorf("roles %v", grant.Roles)
	}

	// A rotation leaves one key.
	rotated, err := store.Make(true)
	if err != nil {
		t.Fatal(err)
	}
	next, err := d.Register(ctx, a.UserID, rotated.Pending.PublicKey)
	if err == nil {
		_, err = store.Bind(a.UserID, next.ID)
	}
	if err == nil {
		err = d.Prune(ctx, a.UserID, next.ID)
	}
	if a, _ = d.Look(ctx, "pi"); err != nil || !slices.Equal(a.Keys, []string{next.ID}) {
		t.Errorf("keys %v, %v", a.Keys, err)
	}
	if _, err := i.Source(store.Dir + "/identity.json").Credential(ctx); err != nil {
		t.Errorf("the new key gets no token: %v", err)
	}

	for _, want := range []bool{true, false} {
		if removed, err := d.Remove(ctx, "pi"); err != nil || removed != want {
			t.Errorf("removed %v, %v", removed, err)
		}
	}
	if _, err := i.Source(store.Dir + "/identity.json").Credential(ctx); err == nil {
		t.Error("a removed device still gets tokens")
	}
}

func TestCheckTellsCausesApart(t *testing.T) {
	i := issuertest.Start(t)
	c := admin(t, i)
	err := provision.Devices{Client: c, Project: "999"}.Check(t.Context())
	if err == nil || !strings.Contains(err.Error(), i.ProjectID) || !strings.Contains(hint.Of(err), "--org-id") {
		t.Errorf("another project of the name: %v, hint %q", err, hint.Of(err))
	}
	viewer := i.Source(i.Machine("viewer", "fleet-viewer"))
	denied, err := zitadel.New(zitadel.Config{Issuer: i.URL, HTTPClient: i.HTTPClient(), Token: func(ctx context.Context) (zitadel.Token, error) {
		got, err := viewer.Credential(ctx)
		return zitadel.Token(got.Token.Reveal()), err
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := (provision.Devices{Client: denied, Project: i.ProjectID}).Check(t.Context()); hint.Code(err) != hint.CodeAuth {
		t.Errorf("without the role: %v", err)
	}
}

func identity(t *testing.T) (devicekey.Store, string) {
	t.Helper()
	store := devicekey.Store{Dir: t.TempDir(), Owner: secretfile.Owner{UID: os.Getuid(), GID: os.Getgid()}}
	made, err := store.Make(false)
	if err != nil {
		t.Fatal(err)
	}
	return store, made.Pending.PublicKey
}
