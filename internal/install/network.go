package install

import (
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// services are what others in the cluster find a part by.
func (o *Options) services() []client.Object {
	api := o.service(dashboardName, corev1.ServicePort{Name: "api", Port: o.apiPort(), TargetPort: intstr.FromString("api"),
		Protocol: corev1.ProtocolTCP, AppProtocol: to(map[bool]string{true: "https", false: "http"}[o.endsTLS()])})
	switch o.Expose {
	case ExposeLoadBalancer:
		api.Spec.Type = corev1.ServiceTypeLoadBalancer
	case ExposeNodePort:
		api.Spec.Type = corev1.ServiceTypeNodePort
	}
	all := []client.Object{api}
	for _, p := range Parts() {
		status := o.service(p.Name, corev1.ServicePort{Name: "status", Port: statusPort, TargetPort: intstr.FromString("status"), Protocol: corev1.ProtocolTCP})
		status.Name += "-status"
		status.Labels[labelName] = p.Name + "-status"
		status.Spec.ClusterIP = corev1.ClusterIPNone
		all = append(all, status)
	}
	return all
}

// apiPort is that of the Service: some ingress controllers take 443 to mean that
// TLS is spoken behind it.
func (o *Options) apiPort() int32 {
	if o.endsTLS() {
		return 443
	}
	return 80
}

func (o *Options) service(name string, ports ...corev1.ServicePort) *corev1.Service {
	return &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: o.objectMeta(name, name),
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, Selector: selector(name), Ports: ports},
	}
}

// networkPolicies let each part be reached where it serves, and reach what it
// works with. The Kubernetes API, the issuer and a NATS that is not ours can be
// anywhere, so they are told apart by port.
func (o *Options) networkPolicies() []client.Object {
	anyone := []networkingv1.NetworkPolicyPeer{}
	out := []networkingv1.NetworkPolicyEgressRule{
		{Ports: ports("53/UDP", "53", "5353/UDP", "5353")}, // OpenShift's DNS listens on 5353
		// The Kubernetes API; the issuer, or the ingress before it, by the port that
		// its pods listen on: a policy sees where a Service leads, and not the Service.
		{Ports: ports("443", "6443", "8443")},
	}
	if o.WithNATS {
		out = append(out, networkingv1.NetworkPolicyEgressRule{Ports: ports("4222"),
			To: []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{labelName: natsName}}}}})
	} else {
		out = append(out, networkingv1.NetworkPolicyEgressRule{Ports: ports(natsPorts(o.NATSURLs)...)})
	}
	var all []client.Object
	for _, p := range Parts() {
		in := []networkingv1.NetworkPolicyIngressRule{{From: anyone, Ports: ports(strconv.Itoa(statusPort))}}
		if p.Name == dashboardName {
			in = append(in, networkingv1.NetworkPolicyIngressRule{From: anyone, Ports: ports(strconv.Itoa(apiPort))})
		}
		all = append(all, &networkingv1.NetworkPolicy{
			TypeMeta:   metav1.TypeMeta{APIVersion: networkingv1.SchemeGroupVersion.String(), Kind: "NetworkPolicy"},
			ObjectMeta: o.objectMeta(p.Name, p.Name),
			Spec: networkingv1.NetworkPolicySpec{
				PodSelector: metav1.LabelSelector{MatchLabels: selector(p.Name)},
				PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
				Ingress:     in, Egress: out,
			},
		})
	}
	return all
}

// ports reads "443" and "53/UDP".
func ports(list ...string) []networkingv1.NetworkPolicyPort {
	var all []networkingv1.NetworkPolicyPort
	for _, s := range list {
		protocol := corev1.ProtocolTCP
		if number, ok := strings.CutSuffix(s, "/UDP"); ok {
			s, protocol = number, corev1.ProtocolUDP
		}
		all = append(all, networkingv1.NetworkPolicyPort{Protocol: &protocol, Port: to(intstr.Parse(s))})
	}
	return all
}
