package systemtest

import (
	"context"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"

	"github.com/nationtech/fleetctl/internal/identity/provision"
	"github.com/nationtech/fleetctl/internal/identity/zitadel"
	"github.com/nationtech/fleetctl/internal/install"
	"github.com/nationtech/fleetctl/internal/pki"
)

// checkPublic runs the test that ends an installation against the cluster: with
// an account of the issuer's, with a password, and where it has to fail. Each
// leaves nothing of its device behind.
func (c *cluster) checkPublic(t *testing.T) {
	t.Helper()
	objects, err := dynamic.NewForConfig(c.restConfig())
	if err != nil {
		t.Fatal(err)
	}
	accounts := c.accounts(t)
	made := map[string]bool{}
	canary := install.Canary{API: c.client(), Devices: accounts, Forget: func(ctx context.Context, device string) error {
		made[device] = true
		if err := objects.Resource(devices).Delete(ctx, device, metav1.DeleteOptions{}); !apierrors.IsNotFound(err) {
			return err
		}
		return nil
	}}
	roots := c.ca.Pool()
	roots.AppendCertsFromPEM(c.issuer.CA.PEM())
	smoke := install.Smoke{APIURL: c.api, Issuer: c.issuer.URL, NATSURLs: c.natsURLs, Roots: roots, Canary: &canary}
	for _, check := range smoke.Run(t.Context()) {
		if !check.OK || check.Detail != "" {
			t.Errorf("%+v", check)
		}
	}
	canary.Devices = nil
	for _, check := range smoke.Run(t.Context()) {
		if !check.OK {
			t.Errorf("with a password: %+v", check)
		}
	}
	smoke.Canary = nil
	checks := smoke.Run(t.Context())
	if last := checks[len(checks)-1]; !last.Skipped || last.OK || last.Failed() || !strings.Contains(last.Hint, "fleetctl server test") {
		t.Errorf("without anybody to let in: %+v", last)
	}

	// With another authority nothing is taken for good.
	other, err := pki.Open(c.path("other-pki"))
	if err != nil {
		t.Fatal(err)
	}
	canary.Devices, smoke.Canary, smoke.Roots = accounts, &canary, other.Pool()
	for _, check := range smoke.Run(t.Context()) {
		if check.OK {
			t.Errorf("under a certificate of somebody else: %+v", check)
		}
	}

	if len(made) != 3 {
		t.Errorf("three tests made the devices %v", made)
	}
	for device := range made {
		if a, err := accounts.Look(t.Context(), device); err != nil || a.UserID != "" {
			t.Errorf("the account of %s is still there: %+v, %v", device, a, err)
		}
		eventually(t, device+" to be gone", func(ctx context.Context) (bool, error) {
			_, err := objects.Resource(devices).Get(ctx, device, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return true, nil
			}
			return false, err
		})
	}
}

// accounts manages devices' accounts as the issuer's administrator.
func (c *cluster) accounts(t *testing.T) *provision.Devices {
	t.Helper()
	source := c.issuer.Source(c.issuer.Machine("setup", "fleet-admin"))
	client, err := zitadel.New(zitadel.Config{Issuer: c.issuer.URL, HTTPClient: c.issuer.HTTPClient(), Token: func(ctx context.Context) (zitadel.Token, error) {
		got, err := source.Credential(ctx)
		return zitadel.Token(got.Token.Reveal()), err
	}})
	if err != nil {
		t.Fatal(err)
	}
	return &provision.Devices{Client: client, Project: c.issuer.ProjectID}
}
