package install

import (
	"context"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/nationtech/fleetctl/internal/identity/zitadel"
	"github.com/nationtech/fleetctl/internal/issuer/issuertest"
)

func withZitadel() Options {
	o := example()
	o.Issuer, o.ProjectID, o.ClientID, o.WithZitadel = "", "", "", true
	return o
}

// The first password is made once and kept, whatever database is named later;
// what Zitadel is told follows from both.
func TestZitadelSecret(t *testing.T) {
	o := withZitadel()
	first, _, err := o.Complete(nil)
	if err != nil {
		t.Fatal(err)
	}
	data := first[zitadelSecret]
	if n := len(data[keyMasterkey]); n != 32 {
		t.Errorf("the masterkey has %d characters, and the chart wants 32", n)
	}
	o.PostgresDSN = "postgresql://owner:p%40ss@db.example.com/identity"
	second, made, err := o.Complete(first)
	if err != nil || len(made) > 0 {
		t.Fatalf("made again: %v, %v", made, err)
	}
	if string(second[zitadelSecret][keyAdminPassword]) != string(data[keyAdminPassword]) || string(second[zitadelSecret][keyMasterkey]) != string(data[keyMasterkey]) {
		t.Error("another database made another password or key")
	}
	o.PostgresDSN = "" // it is remembered
	third, _, err := o.Complete(second)
	if err != nil {
		t.Fatal(err)
	}
	var c zitadelSecretConfig
	if err := yaml.Unmarshal(third[zitadelSecret][keyZitadelConfig], &c); err != nil {
		t.Fatal(err)
	}
	if c.FirstInstance.Org.Human.Password != string(data[keyAdminPassword]) || c.Database == nil || c.Database.Postgres.User.Password != "p@ss" {
		t.Errorf("Zitadel is told %s", third[zitadelSecret][keyZitadelConfig])
	}

	for _, dsn := range []string{"host=db password=s3cret", "mysql://a:s3cret@b/c", "postgres://b/c", "postgres://a:s3cret@b", "postgres://a:s3cret@b:x/c"} {
		bad := withZitadel()
		bad.PostgresDSN = dsn
		if err := bad.Validate(); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", dsn, err)
		}
	}
}

func TestZitadelOptions(t *testing.T) {
	good := withZitadel()
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	if good.IssuerURL() != "https://id.fleet.example.com" {
		t.Errorf("the issuer is %s", good.IssuerURL())
	}
	for name, spoil := range map[string]func(*Options){
		"another issuer":        func(o *Options) { o.Issuer = "https://sso.example.com" },
		"nothing that ends TLS": func(o *Options) { o.Expose = ExposeLoadBalancer },
	} {
		bad := withZitadel()
		if spoil(&bad); bad.Validate() == nil {
			t.Errorf("%s: taken", name)
		}
	}
	for text, want := range map[string]int64{"1000650000/10000": 1000650000, "1000650000-1000659999": 1000650000, "": 0, "many": 0, "x/1": 0} {
		if got, err := firstOf(text); got != want || (err == nil) != (want > 0) {
			t.Errorf("the first of %q is %d, %v", text, got, err)
		}
	}
}

// One certificate for the two ingresses of one name, asked for once.
func TestZitadelIngressesShareACertificate(t *testing.T) {
	o := withZitadel()
	o.ClusterIssuer = "letsencrypt"
	main, login := o.zitadelIngresses()
	if main.TLS[0].SecretName != issuerTLS || login.TLS[0].SecretName != issuerTLS || !slices.Equal(main.TLS[0].Hosts, login.TLS[0].Hosts) {
		t.Errorf("the certificates are %+v and %+v", main.TLS, login.TLS)
	}
	if main.Annotations["cert-manager.io/cluster-issuer"] != "letsencrypt" || login.Annotations["cert-manager.io/cluster-issuer"] != "" {
		t.Errorf("cert-manager is asked by %v and %v", main.Annotations, login.Annotations)
	}
}

// What a new issuer needs is made once; an installation is told the same ids
// every time.
func TestSetUpIdentity(t *testing.T) {
	i := issuertest.Start(t)
	source := i.Source(i.Machine("setup", "fleet-admin"))
	client, err := zitadel.New(zitadel.Config{Issuer: i.URL, HTTPClient: i.HTTPClient(), Token: func(ctx context.Context) (zitadel.Token, error) {
		got, err := source.Credential(ctx)
		return zitadel.Token(got.Token.Reveal()), err
	}})
	if err != nil {
		t.Fatal(err)
	}
	o := withZitadel()
	i.Machine(o.AdminLogin()) // Zitadel makes a person; the grant is the same
	changes, err := o.SetUpIdentity(t.Context(), client)
	if err != nil || o.ProjectID != i.ProjectID || o.ClientID == "" || o.DashboardID == "" || !slices.Contains(changes, "made "+o.AdminLogin()+" an administrator of the fleet") {
		t.Fatalf("%+v, %q, %v", o, changes, err)
	}
	again := withZitadel()
	changes, err = again.SetUpIdentity(t.Context(), client)
	if err != nil || len(changes) > 0 || again.ProjectID != o.ProjectID || again.ClientID != o.ClientID || again.DashboardID != o.DashboardID {
		t.Errorf("again: %+v, %q, %v", again, changes, err)
	}
	next := withZitadel()
	next.inherit(&o)
	if next.ProjectID != o.ProjectID || next.ClientID != o.ClientID || next.DashboardID != o.DashboardID {
		t.Errorf("a later installation is told %+v", next)
	}
}
