package install

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// kind is one that installations are made of.
type kind struct {
	schema.GroupVersionKind
	cluster bool // its objects are in no namespace
	spread  bool // or in several
	kept    bool // holds data or secrets: removed only when asked to purge
}

// kinds in the order of removal: what leads to a pod goes before the pod, and
// what a pod needs after it.
func kinds() []kind {
	gvk := func(group, version, k string) schema.GroupVersionKind {
		return schema.GroupVersionKind{Group: group, Version: version, Kind: k}
	}
	return []kind{
		{GroupVersionKind: gvk("networking.k8s.io", "v1", "Ingress")},
		{GroupVersionKind: gvk("route.openshift.io", "v1", "Route")},
		{GroupVersionKind: gvk("gateway.networking.k8s.io", "v1", "HTTPRoute")},
		{GroupVersionKind: gvk("monitoring.coreos.com", "v1", "ServiceMonitor")},
		{GroupVersionKind: gvk("monitoring.coreos.com", "v1", "PrometheusRule")},
		{GroupVersionKind: gvk("cert-manager.io", "v1", "Certificate")},
		{GroupVersionKind: gvk("apps", "v1", "Deployment")},
		{GroupVersionKind: gvk("policy", "v1", "PodDisruptionBudget")},
		{GroupVersionKind: gvk("networking.k8s.io", "v1", "NetworkPolicy")},
		{GroupVersionKind: gvk("", "v1", "Service")},
		{GroupVersionKind: gvk("", "v1", "ConfigMap")},
		{GroupVersionKind: gvk("rbac.authorization.k8s.io", "v1", "RoleBinding"), spread: true},
		{GroupVersionKind: gvk("rbac.authorization.k8s.io", "v1", "Role"), spread: true},
		{GroupVersionKind: gvk("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding"), cluster: true},
		{GroupVersionKind: gvk("rbac.authorization.k8s.io", "v1", "ClusterRole"), cluster: true},
		{GroupVersionKind: gvk("", "v1", "ServiceAccount")},
		{GroupVersionKind: postgresKind(), kept: true},
		{GroupVersionKind: gvk("", "v1", "PersistentVolumeClaim"), kept: true},
		{GroupVersionKind: gvk("", "v1", "Secret"), kept: true},
		{GroupVersionKind: gvk("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicyBinding"), cluster: true, kept: true},
		{GroupVersionKind: gvk("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy"), cluster: true, kept: true},
		{GroupVersionKind: gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition"), cluster: true, kept: true},
		{GroupVersionKind: gvk("", "v1", "Namespace"), cluster: true, kept: true},
	}
}

// owned lists the objects of a kind that belong to the installation.
func (i *Installer) owned(ctx context.Context, o *Options, k kind) ([]unstructured.Unstructured, error) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(k.GroupVersionKind)
	options := []client.ListOption{client.MatchingLabels{labelPartOf: partOf, labelManagedBy: managedBy}}
	if !k.cluster && !k.spread {
		options = append(options, client.InNamespace(o.Namespace))
	}
	err := i.Client.List(ctx, list, options...)
	if meta.IsNoMatchError(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", k.Kind, err)
	}
	if !k.cluster && !k.spread || k.Group == "apiextensions.k8s.io" || k.Group == "admissionregistration.k8s.io" {
		return list.Items, nil
	}
	// Those of another installation in the same cluster are not ours.
	var ours []unstructured.Unstructured
	for _, u := range list.Items {
		if u.GetName() == o.Namespace || u.GetNamespace() == o.Namespace || strings.HasPrefix(u.GetName(), o.Namespace+"-fleet-") {
			ours = append(ours, u)
		}
	}
	return ours, nil
}

// stale are objects that an earlier version or other options made.
func (i *Installer) stale(ctx context.Context, o *Options, wanted map[string]bool) ([]Change, error) {
	var changes []Change
	for _, k := range kinds() {
		if k.kept {
			continue
		}
		owned, err := i.owned(ctx, o, k)
		if err != nil {
			return nil, err
		}
		for n := range owned {
			if u := &owned[n]; !wanted[nameOf(u)] {
				changes = append(changes, Change{Action: Delete, Object: nameOf(u), object: u})
			}
		}
	}
	return changes, nil
}
