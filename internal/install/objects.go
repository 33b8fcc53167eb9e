package install

import (
	"encoding/json"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/nationtech/fleetctl/internal/broker/accounts"
	"github.com/nationtech/fleetctl/operator/crd"
)

// Objects are everything that an installation is made of, in the order in which
// it is applied: credentials before the pods that need them. Without secrets
// there are no Secrets among them.
func (o *Options) Objects(c Cluster, secrets Secrets) ([]client.Object, error) {
	definitions, err := definitions()
	if err != nil {
		return nil, err
	}
	all := append([]client.Object{o.namespace()}, definitions...)
	all = append(all, o.identities()...)
	if secrets != nil {
		for _, name := range o.secretNames() {
			all = append(all, o.secret(name, secrets[name]))
		}
		forNATS, err := o.accountsMap(secrets)
		if err != nil {
			return nil, err
		}
		all = append(all, forNATS)
		if o.WithZitadel && len(secrets[zitadelSecret][keyPostgresDSN]) == 0 {
			all = append(all, o.postgres())
		}
	}
	kept, err := o.optionsMap()
	if err != nil {
		return nil, err
	}
	all = append(all, kept)
	if o.CA != "" {
		all = append(all, o.configMap(caMap, caKey, o.CA))
	}
	all = append(all, o.services()...)
	all = append(all, o.networkPolicies()...)
	if o.WithZitadel {
		all = append(all, o.zitadelExposure()...) // the parts are told what is set up there
	}
	all = append(all, o.operator(c)...)
	all = append(all, o.callout(c)...)
	all = append(all, o.dashboard(c)...)
	all = append(all, o.exposure()...)
	if c.ServiceMonitor {
		dashboard, err := o.grafanaDashboard()
		if err != nil {
			return nil, err
		}
		all = append(all, o.serviceMonitor(), dashboard)
	}
	if c.PrometheusRule {
		all = append(all, o.prometheusRule())
	}
	return all, nil
}

// definitions are the CRDs and the policy that guards registrations. They carry
// our labels, and a note for Helm that they outlive a release: with them would
// go every Device and Deployment.
func definitions() ([]client.Object, error) {
	manifests, err := crd.All()
	if err != nil {
		return nil, err
	}
	var all []client.Object
	for _, m := range manifests {
		d := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict(m.YAML, d); err != nil {
			return nil, fmt.Errorf("decode CRD %s: %w", m.Name, err)
		}
		d.Labels = clusterMeta("", "").Labels
		if d.Annotations == nil {
			d.Annotations = map[string]string{}
		}
		maps.Copy(d.Annotations, keep())
		all = append(all, d)
	}
	policy, binding := crd.Policy()
	policy.Labels, binding.Labels = clusterMeta("", "").Labels, clusterMeta("", "").Labels
	policy.Annotations, binding.Annotations = keep(), keep()
	return append(all, policy, binding), nil
}

func keep() map[string]string { return map[string]string{"helm.sh/resource-policy": "keep"} }

// optionsMap remembers the options for an upgrade.
func (o *Options) optionsMap() (*corev1.ConfigMap, error) {
	data, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode options: %w", err)
	}
	return o.configMap(optionsMap, optionsKey, string(data)+"\n"), nil
}

const (
	optionsKey  = "options.json"
	accountsKey = "accounts.conf"
	caKey       = "ca.crt"
)

// accountsMap is what NATS servers have to be configured with, for whoever runs
// them. It holds public keys only.
func (o *Options) accountsMap(secrets Secrets) (*corev1.ConfigMap, error) {
	keys, callout, err := secrets.PublicKeys()
	if err != nil {
		return nil, err
	}
	text, err := accounts.External(keys, callout).Encode()
	if err != nil {
		return nil, err
	}
	return o.configMap(accountsMap, accountsKey, text), nil
}

func (o *Options) configMap(name, key, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: o.objectMeta(name, ""),
		Data:       map[string]string{key: value},
	}
}
