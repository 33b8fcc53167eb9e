package install

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/monitoring"
)

// Kinds that others define. Of their types we need a few fields, which are
// written down here: the modules that define them would bring a hundred others.
type (
	// routeSpec is of OpenShift's route.openshift.io/v1 Route.
	routeSpec struct {
		Host string `json:"host"`
		Path string `json:"path,omitempty"`
		To   struct {
			Kind   string `json:"kind"`
			Name   string `json:"name"`
			Weight int32  `json:"weight"`
		} `json:"to"`
		Port struct {
			TargetPort string `json:"targetPort"`
		} `json:"port"`
		TLS struct {
			Termination                   string `json:"termination"`
			InsecureEdgeTerminationPolicy string `json:"insecureEdgeTerminationPolicy"`
		} `json:"tls"`
		WildcardPolicy string `json:"wildcardPolicy"`
	}
	// httpRouteSpec is of gateway.networking.k8s.io/v1 HTTPRoute.
	httpRouteSpec struct {
		ParentRefs []parentRef `json:"parentRefs"`
		Hostnames  []string    `json:"hostnames"`
		Rules      []httpRule  `json:"rules"`
	}
	parentRef struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	}
	httpRule struct {
		Matches     []routeMatch `json:"matches,omitempty"`
		BackendRefs []backendRef `json:"backendRefs"`
		Timeouts    httpTimeouts `json:"timeouts"`
	}
	routeMatch struct {
		Path pathMatch `json:"path"`
	}
	pathMatch struct {
		Type  string `json:"type"`
		Value string `json:"value"`
	}
	backendRef struct {
		Name string `json:"name"`
		Port int32  `json:"port"`
	}
	httpTimeouts struct {
		Request string `json:"request"` // 0s: none
	}
	// certificateSpec is of cert-manager.io/v1 Certificate.
	certificateSpec struct {
		SecretName string    `json:"secretName"`
		DNSNames   []string  `json:"dnsNames"`
		IssuerRef  issuerRef `json:"issuerRef"`
	}
	issuerRef struct {
		Kind string `json:"kind"`
		Name string `json:"name"`
	}
	// serviceMonitorSpec is of monitoring.coreos.com/v1 ServiceMonitor.
	serviceMonitorSpec struct {
		Selector  metav1.LabelSelector `json:"selector"`
		Endpoints []monitorEndpoint    `json:"endpoints"`
	}
	monitorEndpoint struct {
		Port     string `json:"port"`
		Path     string `json:"path"`
		Interval string `json:"interval"`
	}
)

// foreign makes an object of a kind that others define.
func foreign(apiVersion, kind string, meta metav1.ObjectMeta, spec any) client.Object {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&struct {
		Spec any `json:"spec"`
	}{spec})
	if err != nil {
		panic(fmt.Sprintf("install: %s: %v", kind, err)) // our own types; a test makes each
	}
	u := &unstructured.Unstructured{Object: fields}
	u.SetAPIVersion(apiVersion)
	u.SetKind(kind)
	u.SetName(meta.Name)
	u.SetNamespace(meta.Namespace)
	u.SetLabels(meta.Labels)
	u.SetAnnotations(meta.Annotations)
	return u
}

func (o *Options) route(t target) client.Object {
	var spec routeSpec
	spec.Host, spec.WildcardPolicy = t.host, "None"
	spec.To.Kind, spec.To.Name, spec.To.Weight = "Service", t.service, 100
	spec.Port.TargetPort = t.portName()
	if t.path != "/" {
		spec.Path = t.path
	}
	spec.TLS.Termination, spec.TLS.InsecureEdgeTerminationPolicy = "edge", "Redirect"
	meta := o.objectMeta(t.name, "")
	meta.Annotations = map[string]string{
		"haproxy.router.openshift.io/timeout":        streamTimeout + "s",
		"haproxy.router.openshift.io/timeout-tunnel": streamTimeout + "s",
	}
	return foreign("route.openshift.io/v1", "Route", meta, &spec)
}

func (o *Options) httpRoute(t target) client.Object {
	namespace, name, _ := strings.Cut(o.Gateway, "/")
	spec := httpRouteSpec{
		ParentRefs: []parentRef{{namespace, name}}, Hostnames: []string{t.host},
		Rules: []httpRule{{BackendRefs: []backendRef{{t.service, t.port}}, Timeouts: httpTimeouts{"0s"}}},
	}
	if t.path != "/" {
		spec.Rules[0].Matches = []routeMatch{{pathMatch{"PathPrefix", t.path}}}
	}
	return foreign("gateway.networking.k8s.io/v1", "HTTPRoute", o.objectMeta(t.name, ""), &spec)
}

func (o *Options) certificate() client.Object {
	spec := certificateSpec{SecretName: publicTLS, IssuerRef: issuerRef{"ClusterIssuer", o.ClusterIssuer}}
	for _, t := range o.targets() {
		spec.DNSNames = append(spec.DNSNames, t.host)
	}
	return foreign("cert-manager.io/v1", "Certificate", o.objectMeta(publicTLS, ""), &spec)
}

const (
	monitoringAPI = "monitoring.coreos.com/v1" // of the Prometheus operator
	dashboardMap  = "fleet-grafana-dashboard"
)

func (o *Options) serviceMonitor() client.Object {
	spec := serviceMonitorSpec{
		Selector:  metav1.LabelSelector{MatchLabels: map[string]string{labelPartOf: partOf, labelManagedBy: managedBy}},
		Endpoints: []monitorEndpoint{{Port: "status", Path: "/metrics", Interval: "30s"}},
	}
	return foreign(monitoringAPI, "ServiceMonitor", o.objectMeta("fleet", ""), &spec)
}

func (o *Options) prometheusRule() client.Object {
	rules := monitoring.Alerts()
	return foreign(monitoringAPI, "PrometheusRule", o.objectMeta("fleet", ""), &rules)
}

// grafanaDashboard is found by Grafana's sidecar of the usual charts, by its label.
func (o *Options) grafanaDashboard() (client.Object, error) {
	data, err := monitoring.Dashboard()
	if err != nil {
		return nil, err
	}
	m := o.configMap(dashboardMap, "fleet.json", string(data))
	m.Labels["grafana_dashboard"] = "1"
	return m, nil
}
