package install

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// chartValue is a value of the chart: where it is in values.yaml, what it says
// there, and the mark that stands for it while objects are made.
type chartValue struct {
	path     string // in values.yaml; empty: from the release
	about    string // its comment
	value    any    // string, int or []string
	marker   string
	from     string // the expression where it is not .Values.<path>
	optional bool   // the line is left out where it is empty
	pattern  string // of a string, in the schema
	mark     func(*Options)
}

// Markers look like what they stand for, so that whatever checks an object on
// its way takes them; nothing else in an object looks like them.
const (
	markNamespace = "xq-namespace"
	markDomain    = "xq-domain.invalid"
	markRegistry  = "xq-registry.invalid"
	markVersion   = "xq-version"
	markIssuer    = "https://xq-issuer.invalid"
	markProject   = "xq-project"
	markClient    = "xq-client"
	markDashboard = "xq-dashboard"
	markNATS      = "tls://xq-nats.invalid:4222"
	markKube      = "https://xq-kube.invalid"
	markStorage   = "xq-storage"
	markClass     = "xq-class"
	markCert      = "xq-cert"
	markTLS       = "xq-tls"
	markGatewayNS = "xq-gw-ns"
	markGateway   = "xq-gw-name"
	markReplicas  = 7_331_003
	markDevices   = 7_331_004
)

func chartValues(o *Options) []chartValue {
	all := []chartValue{
		{from: ".Release.Namespace", marker: markNamespace, mark: func(m *Options) { m.Namespace = markNamespace }},
		{path: "domain", about: "Name of the control plane: the API and the dashboard are at it, NATS at nats.<domain>.",
			value: o.Domain, marker: markDomain, pattern: `^[a-z0-9.-]+\.[a-z0-9-]+$`, mark: func(m *Options) { m.Domain = markDomain }},
		{path: "image.registry", about: "Registry of the image fleet-server.", value: o.ImageRegistry, marker: markRegistry,
			mark: func(m *Options) { m.ImageRegistry = markRegistry }},
		{path: "image.tag", about: "Its tag.", value: o.Version, marker: markVersion, pattern: `^[A-Za-z0-9_.-]+$`, mark: func(m *Options) { m.Version = markVersion }},
		{path: "issuer.url", about: "OpenID Connect issuer of people and devices, exactly as it calls itself.", value: o.Issuer,
			marker: markIssuer, pattern: `^https://`, mark: func(m *Options) { m.Issuer = markIssuer }},
		{path: "issuer.projectID", about: "Audience of its tokens; at Zitadel the id of the project.", value: o.ProjectID, marker: markProject,
			mark: func(m *Options) { m.ProjectID = markProject }},
		{path: "issuer.clientID", about: "Client id of fleetctl; empty: people cannot sign in with fleetctl login.", value: o.ClientID, marker: markClient,
			optional: true, mark: func(m *Options) { m.ClientID = markClient }},
		{path: "issuer.dashboardClientID", about: "Client id of the dashboard.", value: o.DashboardID, marker: markDashboard,
			optional: true, mark: func(m *Options) { m.DashboardID = markDashboard }},
		{path: "devices", about: "The most devices that there will be; buckets are sized for them.", value: o.Devices, marker: strconv.Itoa(markDevices),
			mark: func(m *Options) { m.Devices = markDevices }},
		{path: "bucketReplicas", about: "Copies of the bucket of desired state: the number of NATS servers, at most 5.", value: o.NATSReplicas, marker: strconv.Itoa(markReplicas),
			mark: func(m *Options) { m.NATSReplicas = markReplicas }},
		{path: "kubernetesURL", about: "URL at which people find this Kubernetes API; fleetctl login writes it into their kubeconfig.", value: o.KubernetesURL,
			marker: markKube, optional: true, mark: func(m *Options) { m.KubernetesURL = markKube }},
		{path: "storageClass", about: "Class of the audit log's volume; empty: the cluster's default.", value: o.StorageClass, marker: markStorage,
			optional: true, mark: func(m *Options) { m.StorageClass = markStorage }},
	}
	if !o.WithNATS {
		all = append(all, chartValue{path: "natsURLs", about: "Where parts and devices find NATS.", value: o.NATSURLs, marker: markNATS,
			from: `join "," .Values.natsURLs`, mark: func(m *Options) { m.NATSURLs = []string{markNATS} }})
	}
	switch o.Expose {
	case ExposeIngress:
		all = append(all,
			chartValue{path: "ingress.className", about: "Class of the ingress; empty: the cluster's default.", value: o.IngressClass, marker: markClass, optional: true,
				mark: func(m *Options) { m.IngressClass = markClass }},
			chartValue{path: "ingress.clusterIssuer", about: "cert-manager's ClusterIssuer of the public certificate; empty: the Secret is there already.", value: o.ClusterIssuer,
				marker: markCert, optional: true, mark: func(m *Options) { m.ClusterIssuer = markCert }},
			chartValue{path: "ingress.tlsSecret", about: "Secret of the public certificate.", value: o.publicTLSSecret(), marker: markTLS,
				mark: func(m *Options) { m.TLSSecret = markTLS }})
	case ExposeGateway:
		namespace, name, _ := strings.Cut(o.Gateway, "/")
		all = append(all,
			chartValue{path: "gateway.namespace", about: "Namespace of the Gateway.", value: namespace, marker: markGatewayNS,
				mark: func(m *Options) { m.Gateway = markGatewayNS + "/" + markGateway }},
			chartValue{path: "gateway.name", about: "Its name.", value: name, marker: markGateway, mark: func(*Options) {}})
	}
	return all
}

func (v chartValue) expression() string {
	if v.from != "" {
		return "{{ " + v.from + " }}"
	}
	if _, number := v.value.(int); number {
		return "{{ .Values." + v.path + " | int }}"
	}
	return "{{ .Values." + v.path + " }}"
}

func (v chartValue) schema() map[string]any {
	s := map[string]any{"description": v.about}
	switch v.value.(type) {
	case int:
		s["type"], s["minimum"] = "integer", 1
	case []string:
		s["type"], s["items"], s["minItems"] = "array", map[string]any{"type": "string", "pattern": "^(tls|wss)://"}, 1
	default:
		s["type"] = "string"
		if !v.optional {
			s["minLength"] = 1
		}
		if v.pattern != "" {
			s["pattern"] = v.pattern
		}
	}
	return s
}

// valuesFile is values.yaml: each value under its comment.
func valuesFile(values []chartValue) []byte {
	var out bytes.Buffer
	out.WriteString("# Values of the fleet's control plane. Their types are in values.schema.json,\n# which Helm checks.\n")
	section := ""
	for _, v := range values {
		if v.path == "" {
			continue
		}
		name, indent := v.path, ""
		if parent, child, nested := strings.Cut(v.path, "."); nested {
			name, indent = child, "  "
			if parent != section {
				fmt.Fprintf(&out, "\n%s:\n", parent)
			}
			section = parent
		} else {
			section = ""
			out.WriteByte('\n')
		}
		fmt.Fprintf(&out, "%s# %s\n%s%s:", indent, v.about, indent, name)
		switch value := v.value.(type) {
		case int:
			fmt.Fprintf(&out, " %d\n", value)
		case []string:
			out.WriteByte('\n')
			for _, item := range value {
				fmt.Fprintf(&out, "%s  - %q\n", indent, item)
			}
		default:
			fmt.Fprintf(&out, " %q\n", value)
		}
	}
	return out.Bytes()
}

var semverPattern = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$`)

func isSemver(s string) bool { return semverPattern.MatchString(s) }
