package systemtest

import (
	"encoding/json"
	"os/exec"
	"testing"

	"github.com/nationtech/fleetctl/internal/install"
	"github.com/nationtech/fleetctl/internal/pki"
)

// checkPublic runs the test that ends an installation against the cluster, with
// the login of nats-context as the one that is let in; there is no issuer, and
// it has to say so.
func (c *cluster) checkPublic(t *testing.T) {
	t.Helper()
	server, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(server, "nats-context", "--keys-dir", c.path("keys", "callout")).Output()
	if err != nil {
		t.Fatal(err)
	}
	var login struct{ Token string }
	if err := json.Unmarshal(out, &login); err != nil {
		t.Fatal(err)
	}
	smoke := install.Smoke{APIURL: c.api, Issuer: "https://127.0.0.1:1", NATSURLs: c.natsURLs, Roots: c.ca.Pool(), Token: login.Token}
	for _, check := range smoke.Run(t.Context()) {
		if want := check.Name != "OIDC discovery"; check.OK != want || !check.OK && check.Hint == "" {
			t.Errorf("%+v, want OK = %v", check, want)
		}
	}

	// With another authority nothing is taken for good.
	other, err := pki.Open(c.path("other-pki"))
	if err != nil {
		t.Fatal(err)
	}
	smoke.Roots = other.Pool()
	for _, check := range smoke.Run(t.Context()) {
		if check.OK {
			t.Errorf("under a certificate of somebody else: %+v", check)
		}
	}
}
