package install

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/nationtech/fleetctl/internal/broker/accounts"
	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/wire"
)

// Every fault is named at once, with the flag that it is of.
func TestValidateNamesEveryFault(t *testing.T) {
	o := Options{Namespace: "Bad_Name", Expose: "smoke", Issuer: "http://plain", NATSReplicas: 2, ClusterIssuer: "a", TLSSecret: "b", ImageRegistry: "https://x"}
	err := o.Validate()
	if err == nil || hint.Code(err) != hint.CodeUsage {
		t.Fatalf("%v, exit code %d", err, hint.Code(err))
	}
	for _, flag := range []string{"--domain", "--namespace", "--expose", "--issuer", "--project-id", "--nats-url", "--nats-replicas", "--cluster-issuer", "--devices", "--image-registry"} {
		if !strings.Contains(err.Error(), flag) {
			t.Errorf("%s is not named in:\n%v", flag, err)
		}
	}
	good := example()
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*Options){
		"NATS twice":               func(o *Options) { o.WithNATS = true },
		"plaintext NATS":           func(o *Options) { o.NATSURLs = []string{"nats://a:4222"} },
		"a gateway without a name": func(o *Options) { o.Expose = ExposeGateway },
		"no dot in the domain":     func(o *Options) { o.Domain = "fleet" },
	} {
		bad := example()
		if spoil(&bad); bad.Validate() == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// Secrets are made once: what is there stays, what is half there is an error.
func TestSecretsAreMadeOnce(t *testing.T) {
	o := example()
	o.NATSURLs, o.WithNATS = nil, true
	first, made, err := o.Complete(nil)
	if err != nil || len(made) != len(first) {
		t.Fatalf("%d of %d Secrets made, %v", len(made), len(first), err)
	}
	second, made, err := o.Complete(first)
	if err != nil || len(made) != 0 {
		t.Fatalf("made again: %v, %v", made, err)
	}
	for name, data := range first {
		for key, value := range data {
			if string(second[name][key]) != string(value) {
				t.Errorf("%s/%s was replaced", name, key)
			}
		}
	}
	delete(second[signingSecret], "signing.key")
	if _, _, err := o.Complete(second); !errors.Is(err, ErrDamaged) {
		t.Errorf("half a Secret: %v", err)
	}
}

// The certificate of NATS is good for the names that the parts use and for those
// of the chart's routes, and the authority's key is nowhere.
func TestNATSCertificate(t *testing.T) {
	o := example()
	o.NATSURLs, o.WithNATS = nil, true
	secrets, _, err := o.Complete(nil)
	if err != nil {
		t.Fatal(err)
	}
	data := secrets[natsTLSSecret]
	pair, err := tls.X509KeyPair(data["tls.crt"], data["tls.key"])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(data["ca.crt"]) || len(data) != 3 {
		t.Fatalf("the Secret has %d entries", len(data))
	}
	for _, host := range []string{"nats.fleet-system.svc", "nats-2.nats-headless.fleet-system.svc", "nats-2.nats-headless", "nats.fleet.example.com"} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
}

// What goes into nats.conf is what nats-server understands: JetStream on FLEET
// alone, every part a user, everybody else asked for at the callout.
func TestNATSConfiguration(t *testing.T) {
	o := example()
	o.NATSURLs, o.WithNATS = nil, true
	secrets, _, err := o.Complete(nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := o.accountsMap(secrets)
	if err != nil {
		t.Fatal(err)
	}
	opts := &server.Options{}
	if err := opts.ProcessConfigString(m.Data[accountsKey]); err != nil {
		t.Fatal(err)
	}
	if opts.AuthCallout == nil || opts.AuthCallout.XKey == "" || len(opts.AuthCallout.AuthUsers) != len(accounts.Roles()) {
		t.Errorf("the callout is %+v", opts.AuthCallout)
	}
	if opts.SystemAccount != wire.AccountSystem || opts.MaxPayload != accounts.MaxPayload() {
		t.Errorf("system account %q, payload %d", opts.SystemAccount, opts.MaxPayload)
	}
	releases, err := o.Releases(Cluster{}, secrets)
	if err != nil || len(releases) != 1 {
		t.Fatalf("%d releases, %v", len(releases), err)
	}
	values, err := releaseText("nats", natsChartVersion, releases[0].Values)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range secrets {
		for key, value := range data {
			if key == "tls.crt" || key == "ca.crt" {
				continue
			}
			if strings.Contains(values+m.Data[accountsKey], strings.TrimSpace(string(value))) {
				t.Errorf("%s/%s is in a ConfigMap or in a chart's values", name, key)
			}
		}
	}
}
