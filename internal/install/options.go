package install

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/nationtech/fleetctl/internal/hint"
)

// Expose is how the control plane is reached from outside of the cluster.
type Expose string

// The ways.
const (
	ExposeIngress      Expose = "ingress"
	ExposeRoute        Expose = "route"   // OpenShift
	ExposeGateway      Expose = "gateway" // Gateway API
	ExposeLoadBalancer Expose = "loadbalancer"
	ExposeNodePort     Expose = "nodeport"
)

// Exposures lists them.
func Exposures() []string {
	return []string{string(ExposeIngress), string(ExposeRoute), string(ExposeGateway), string(ExposeLoadBalancer), string(ExposeNodePort)}
}

// Options is what a user chooses of an installation. They are kept in the
// cluster, without secrets, so that an upgrade need not be told them again.
type Options struct {
	Domain        string   `json:"domain"` // the API is at it, NATS at nats.<domain>
	Namespace     string   `json:"namespace"`
	Expose        Expose   `json:"expose"`
	IngressClass  string   `json:"ingressClass,omitempty"`
	Gateway       string   `json:"gateway,omitempty"`       // namespace/name of a Gateway that is there
	ClusterIssuer string   `json:"clusterIssuer,omitempty"` // cert-manager's, for the public certificate
	TLSSecret     string   `json:"tlsSecret,omitempty"`     // a certificate that is there already
	Issuer        string   `json:"issuer,omitempty"`        // URL of the OpenID Connect issuer
	WithZitadel   bool     `json:"withZitadel,omitempty"`   // the issuer is one beside us
	ZitadelChart  string   `json:"zitadelChart,omitempty"`  // version of its chart, when another than ours
	PostgresDSN   string   `json:"-"`                       // of Zitadel's database; empty: what it has, or CloudNativePG's
	ProjectID     string   `json:"projectID,omitempty"`
	ClientID      string   `json:"clientID,omitempty"`    // of fleetctl at the issuer
	DashboardID   string   `json:"dashboardID,omitempty"` // of the dashboard; empty: no pages
	NATSURLs      []string `json:"natsURLs,omitempty"`    // of servers that are there already
	WithNATS      bool     `json:"withNATS,omitempty"`
	NATSReplicas  int      `json:"natsReplicas"`        // of the servers of WithNATS, and of each bucket
	NATSChart     string   `json:"natsChart,omitempty"` // version of its chart, when another than ours
	Devices       int      `json:"devices"`             // the most that there will be
	Passwords     bool     `json:"passwords,omitempty"`
	ImageRegistry string   `json:"imageRegistry"`
	Version       string   `json:"version"` // of the image
	KubernetesURL string   `json:"kubernetesURL,omitempty"`
	StorageClass  string   `json:"storageClass,omitempty"`
	// CA holds the authorities of the public certificates (of API, issuer and
	// NATS), PEM, where those are not public ones. Parts and devices get it.
	CA string `json:"ca,omitempty"`
	// SecretsFrom are the namespaces whose Secrets and ConfigMaps Deployments may
	// send to devices: the operator reads those of no other.
	SecretsFrom []string `json:"secretsFrom,omitempty"`
}

// Defaults are the options that a user need not give.
func Defaults(version string) Options {
	return Options{Namespace: "fleet-system", Expose: ExposeIngress, NATSReplicas: 3, Devices: 10_000,
		ImageRegistry: "ghcr.io/nationtech", Version: version}
}

// Validate reports all faults at once.
func (o *Options) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.Domain == "" {
		bad("--domain is needed")
	} else if wrong := validation.IsDNS1123Subdomain(o.Domain); len(wrong) > 0 || !strings.Contains(o.Domain, ".") {
		bad("--domain %q is no domain name, such as fleet.example.com", o.Domain)
	}
	if wrong := validation.IsDNS1123Label(o.Namespace); len(wrong) > 0 {
		bad("--namespace %q: %s", o.Namespace, strings.Join(wrong, ", "))
	}
	if !slices.Contains(Exposures(), string(o.Expose)) {
		bad("--expose %q: one of %s", o.Expose, strings.Join(Exposures(), ", "))
	}
	if o.Expose == ExposeGateway && strings.Count(o.Gateway, "/") != 1 {
		bad("--gateway NAMESPACE/NAME is needed with --expose gateway")
	}
	o.validateIssuer(bad)
	o.validateNATS(bad)
	if o.ClusterIssuer != "" && o.TLSSecret != "" {
		bad("--cluster-issuer and --tls-secret exclude each other")
	}
	for _, namespace := range o.SecretsFrom {
		if wrong := validation.IsDNS1123Label(namespace); len(wrong) > 0 || namespace == o.Namespace {
			bad("--secrets-from %q: a namespace of Deployments, and not the control plane's own", namespace)
		}
	}
	if o.CA != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(o.CA)) {
		bad("--ca holds no certificate in PEM")
	}
	if o.Devices < 1 {
		bad("--devices %d: at least 1", o.Devices)
	}
	if o.ImageRegistry == "" || strings.HasSuffix(o.ImageRegistry, "/") || strings.Contains(o.ImageRegistry, "://") {
		bad("--image-registry %q is no registry, such as registry.example.com/fleet", o.ImageRegistry)
	}
	if len(errs) == 0 {
		return nil
	}
	return hint.WithCode(hint.Wrap(errors.Join(errs...), "see: fleetctl server install --help"), hint.CodeUsage)
}

func (o *Options) validateIssuer(bad func(string, ...any)) {
	if o.WithZitadel {
		if o.Issuer != "" {
			bad("--issuer and --with-zitadel exclude each other")
		}
		if !slices.Contains([]Expose{ExposeIngress, ExposeRoute, ExposeGateway}, o.Expose) {
			bad("--with-zitadel needs something that ends TLS before it: --expose ingress, route or gateway")
		}
		if o.PostgresDSN != "" {
			if _, _, err := parseDSN(o.PostgresDSN); err != nil {
				bad("%w", err)
			}
		}
		return
	}
	if o.PostgresDSN != "" {
		bad("--postgres-dsn-file is for --with-zitadel")
	}
	if o.Issuer == "" {
		bad("--issuer URL or --with-zitadel is needed")
		return
	}
	if u, err := url.Parse(o.Issuer); err != nil || u.Scheme != "https" || u.Host == "" {
		bad("--issuer %q does not begin with https://", o.Issuer)
	}
	if o.ProjectID == "" {
		bad("--project-id is needed with --issuer: the audience of its tokens")
	}
}

func (o *Options) validateNATS(bad func(string, ...any)) {
	if (len(o.NATSURLs) > 0) == o.WithNATS {
		bad("either --nats-url URL or --with-nats is needed")
	}
	if o.WithNATS && o.Expose == ExposeNodePort {
		bad("--with-nats: a port of the nodes leads to one part alone: --expose ingress, route, gateway or loadbalancer; or --nats-url")
	}
	for _, u := range o.NATSURLs {
		if scheme, rest, ok := strings.Cut(u, "://"); !ok || scheme != "tls" && scheme != "wss" || rest == "" {
			bad("--nats-url %q does not begin with tls:// or wss://", u)
		}
	}
	if !slices.Contains([]int{1, 3, 5}, o.NATSReplicas) {
		bad("--nats-replicas %d: 1, 3 or 5", o.NATSReplicas)
	}
}

func (o *Options) natsChart() Chart {
	return Chart{Name: "nats", Version: cmp.Or(o.NATSChart, natsChartVersion), Repository: natsRepository, VersionFlag: "nats-chart-version"}
}

// natsHost is the public name of NATS.
func (o *Options) natsHost() string { return "nats." + o.Domain }

// APIURL is where people and devices find the HTTPS API.
func (o *Options) APIURL() string { return "https://" + o.Domain }

// Login is the command that signs a person in.
func (o *Options) Login() string {
	if o.CA != "" {
		return "fleetctl login --server " + o.APIURL() + " --ca-file FILE"
	}
	return "fleetctl login --server " + o.APIURL()
}

// natsEndsTLS says whether devices speak to the servers of WithNATS themselves,
// and check the certificate that the installation made.
func (o *Options) natsEndsTLS() bool { return o.WithNATS && o.Expose == ExposeLoadBalancer }

// DeviceNATSURLs are where devices find NATS. Behind an ingress that is a
// websocket: many sites let nothing out but port 443.
func (o *Options) DeviceNATSURLs() []string {
	switch {
	case !o.WithNATS:
		return o.NATSURLs
	case o.natsEndsTLS():
		return []string{"tls://" + o.natsHost() + ":4222"}
	}
	return []string{"wss://" + o.natsHost() + ":443"}
}

// partNATSURLs are where the parts do.
func (o *Options) partNATSURLs() []string {
	if !o.WithNATS {
		return o.NATSURLs
	}
	return []string{"tls://nats." + o.Namespace + ".svc:4222"}
}

func (o *Options) image() string { return o.ImageRegistry + "/fleet-server:" + o.Version }

// Cluster is what the cluster can do; objects of kinds that it does not know
// are left out.
type Cluster struct {
	OpenShift bool // gives pods their user and group ids
	// FirstUser and FirstGroup are the first ids of the namespace on OpenShift; 0:
	// it has none yet.
	FirstUser, FirstGroup int64
	CloudNativePG         bool // runs PostgreSQL
	ServiceMonitor        bool // the Prometheus operator is there, or one that has its kinds
	PrometheusRule        bool // likewise
}
