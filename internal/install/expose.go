package install

import (
	"net/url"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// streamTimeout is how long a connection may be silent at an ingress: longer
// than the pings on a websocket of NATS, and than a log stream without output.
const streamTimeout = "3600"

// target is one public name and what is behind it.
type target struct {
	name, host, service string
	port                int32
	path                string
}

// portName is what the Service calls the port; Routes want names.
func (t target) portName() string {
	switch t.service {
	case natsName:
		return "websocket"
	case zitadelName:
		return "http2-server" // the charts' names
	case zitadelName + "-login":
		return "http-server"
	}
	return "api"
}

func (o *Options) targets() []target {
	all := []target{{dashboardName, o.Domain, dashboardName, o.apiPort(), "/"}}
	if o.WithNATS {
		all = append(all, target{"fleet-nats", o.natsHost(), natsName, 8080, "/"}) // its websocket
	}
	return all
}

// exposure is what makes the control plane reachable from outside.
func (o *Options) exposure() []client.Object {
	var all []client.Object
	switch o.Expose {
	case ExposeIngress:
		all = append(all, o.ingress())
	case ExposeRoute:
		for _, t := range o.targets() {
			all = append(all, o.route(t))
		}
	case ExposeGateway:
		for _, t := range o.targets() {
			all = append(all, o.httpRoute(t))
		}
	case ExposeLoadBalancer, ExposeNodePort: // the Service is of that type
		if o.ClusterIssuer != "" {
			all = append(all, o.certificate())
		}
	}
	return all
}

func (o *Options) publicTLSSecret() string {
	if o.TLSSecret != "" {
		return o.TLSSecret
	}
	return publicTLS
}

// ingress ends TLS for every name with one certificate. The annotations are
// those of the controllers that are most in use; others ignore them.
func (o *Options) ingress() *networkingv1.Ingress {
	in := &networkingv1.Ingress{
		TypeMeta:   metav1.TypeMeta{APIVersion: networkingv1.SchemeGroupVersion.String(), Kind: "Ingress"},
		ObjectMeta: o.objectMeta("fleet", ""),
	}
	in.Annotations = map[string]string{
		"nginx.ingress.kubernetes.io/proxy-read-timeout":      streamTimeout,
		"nginx.ingress.kubernetes.io/proxy-send-timeout":      streamTimeout,
		"nginx.ingress.kubernetes.io/proxy-buffering":         "off", // logs are streamed
		"nginx.ingress.kubernetes.io/force-ssl-redirect":      "true",
		"haproxy-ingress.github.io/timeout-tunnel":            streamTimeout + "s",
		"traefik.ingress.kubernetes.io/router.entrypoints":    "websecure",
		"nginx.ingress.kubernetes.io/proxy-request-buffering": "off",
	}
	if o.ClusterIssuer != "" {
		in.Annotations["cert-manager.io/cluster-issuer"] = o.ClusterIssuer
	}
	if o.IngressClass != "" {
		in.Spec.IngressClassName = to(o.IngressClass)
	}
	prefix := networkingv1.PathTypePrefix
	tls := networkingv1.IngressTLS{SecretName: o.publicTLSSecret()}
	for _, t := range o.targets() {
		tls.Hosts = append(tls.Hosts, t.host)
		in.Spec.Rules = append(in.Spec.Rules, networkingv1.IngressRule{Host: t.host, IngressRuleValue: networkingv1.IngressRuleValue{
			HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{Path: "/", PathType: &prefix,
				Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: t.service, Port: networkingv1.ServiceBackendPort{Number: t.port}}}}}}}})
	}
	in.Spec.TLS = []networkingv1.IngressTLS{tls}
	return in
}

// natsPorts are the ports of NATS URLs, each once.
func natsPorts(urls []string) []string {
	var all []string
	for _, raw := range urls {
		u, err := url.Parse(raw)
		if err != nil {
			continue // Validate has said so
		}
		port := u.Port()
		switch {
		case port != "":
		case u.Scheme == "wss":
			port = "443"
		default:
			port = "4222"
		}
		all = append(all, port)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
