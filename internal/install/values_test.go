package install

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"

	"github.com/nationtech/fleetctl/internal/broker/accounts"
)

var update = flag.Bool("update", false, "write the golden files")

// fixedSecrets are the same in each run: their public halves are in values.
func fixedSecrets(t *testing.T, o *Options) Secrets {
	t.Helper()
	all, _, err := o.Complete(nil)
	if err != nil {
		t.Fatal(err)
	}
	n := byte(0)
	fixed := func(prefix nkeys.PrefixByte) []byte {
		n++
		seed, err := nkeys.EncodeSeed(prefix, bytes.Repeat([]byte{n}, 32))
		if err != nil {
			t.Fatal(err)
		}
		return seed
	}
	for _, in := range []struct {
		secret string
		roles  []string
	}{
		{operatorName, []string{accounts.RoleOperator, accounts.RoleBuckets, accounts.RoleWatcher}},
		{calloutName, []string{accounts.RoleCallout, accounts.RoleWarden}},
		{dashboardName, []string{accounts.RoleAPI, accounts.RolePresence}},
	} {
		for _, role := range in.roles {
			all[in.secret][role+".nk"] = fixed(nkeys.PrefixByteUser)
		}
	}
	if o.WithZitadel {
		all[zitadelSecret][keyAdminPassword] = []byte("Aa1-FIXED")
		if err := o.zitadelSecrets(all[zitadelSecret]); err != nil {
			t.Fatal(err)
		}
	}
	all[calloutName][keyIssuer], all[calloutName][keyXKey] = fixed(nkeys.PrefixByteAccount), fixed(nkeys.PrefixByteCurve)
	return all
}

// TestChartValues: what the charts of others get. Charts cannot be fetched here,
// so each change of a value is looked at by a person, in the golden file's diff.
func TestChartValues(t *testing.T) {
	plain := func(*Options) {}
	zitadel := func(o *Options) {
		o.Issuer, o.ProjectID, o.ClientID, o.WithZitadel, o.IngressClass, o.ClusterIssuer = "", "", "", true, "nginx", "letsencrypt"
	}
	for _, tt := range []struct {
		name    string
		shape   func(*Options)
		cluster Cluster
	}{
		{"nats", plain, Cluster{}},
		{"nats-openshift", func(o *Options) { o.Expose, o.StorageClass = ExposeRoute, "fast" }, Cluster{OpenShift: true}},
		{"nats-single", func(o *Options) { o.NATSReplicas, o.Devices = 1, 20_000 }, Cluster{}},
		{"nats-loadbalancer", func(o *Options) { o.Expose = ExposeLoadBalancer }, Cluster{}},
		{"zitadel", zitadel, Cluster{CloudNativePG: true}},
		{"zitadel-openshift", func(o *Options) { zitadel(o); o.Expose = ExposeRoute }, Cluster{OpenShift: true, CloudNativePG: true, FirstUser: 1000650000, FirstGroup: 1000660000}},
		{"zitadel-dsn", func(o *Options) {
			zitadel(o)
			o.PostgresDSN = "postgres://owner:s3cret%2F@db.example.com:6432/identity?sslmode=require"
		}, Cluster{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := example()
			o.NATSURLs, o.WithNATS = nil, true
			tt.shape(&o)
			if err := o.Validate(); err != nil {
				t.Fatal(err)
			}
			releases, err := o.Releases(tt.cluster, fixedSecrets(t, &o))
			if err != nil {
				t.Fatal(err)
			}
			r := releases[len(releases)-1]
			got, err := releaseText(r.Chart.Name, r.Chart.Version, r.Values)
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", tt.name+"-values.yaml")
			if strings.Contains(got, "s3cret") || strings.Contains(got, "Aa1-") {
				t.Error("a password is among the values")
			}
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := differenceOfLines(string(want), got); diff != "" {
				t.Errorf("the values differ from %s (go test -update writes it):\n%s", golden, diff)
			}
		})
	}
}
