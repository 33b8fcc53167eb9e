package install

import (
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// Part names the identity and the rights of a part.
type Part struct {
	Name string
	// Cluster is what it may do everywhere, Namespaced what it may do in its own
	// namespace. A test runs the parts with nothing else, and looks in the API
	// server's audit log that each verb is used.
	Cluster    []rbacv1.PolicyRule
	Namespaced []rbacv1.PolicyRule
}

// Parts lists every part with the least that it needs.
func Parts() []Part {
	group := []string{v1alpha1.GroupVersion.Group}
	return []Part{
		{
			Name: operatorName,
			Cluster: []rbacv1.PolicyRule{
				{APIGroups: group, Resources: []string{"devices", "deployments"}, Verbs: []string{"list", "watch", "patch"}},
				{APIGroups: group, Resources: []string{"deploymentrevisions"}, Verbs: []string{"list", "watch", "create", "patch", "delete"}},
				{APIGroups: group, Resources: []string{"devices/status", "deployments/status"}, Verbs: []string{"patch"}},
				{APIGroups: []string{"events.k8s.io"}, Resources: []string{"events"}, Verbs: []string{"create", "patch"}},
			},
			Namespaced: []rbacv1.PolicyRule{
				{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"get", "create", "update"}},
			},
		},
		{
			Name: calloutName,
			Cluster: []rbacv1.PolicyRule{
				{APIGroups: group, Resources: []string{"devices"}, Verbs: []string{"list", "watch"}},
			},
		},
		{
			Name: dashboardName,
			Cluster: []rbacv1.PolicyRule{
				{APIGroups: group, Resources: []string{"devices"}, Verbs: []string{"get", "list", "watch", "create", "update", v1alpha1.VerbEnroll}},
				{APIGroups: group, Resources: []string{"deployments"}, Verbs: []string{"list", "watch"}}, // for the pages
			},
			Namespaced: []rbacv1.PolicyRule{
				{APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: []string{signingSecret}, Verbs: []string{"get", "update"}}, // to rotate the key
			},
		},
	}
}

// identities are the parts' service accounts and what those may do.
func (o *Options) identities() []client.Object {
	var all []client.Object
	for _, p := range Parts() {
		subject := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: p.Name, Namespace: o.Namespace}}
		all = append(all, &corev1.ServiceAccount{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"},
			ObjectMeta: o.objectMeta(p.Name, p.Name),
			// Each pod asks for the token itself.
			AutomountServiceAccountToken: new(bool),
		})
		if len(p.Cluster) > 0 {
			// Two installations in one cluster must not take each other's.
			name := o.Namespace + "-" + p.Name
			all = append(all,
				&rbacv1.ClusterRole{
					TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRole"},
					ObjectMeta: clusterMeta(name, p.Name), Rules: p.Cluster,
				},
				&rbacv1.ClusterRoleBinding{
					TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRoleBinding"},
					ObjectMeta: clusterMeta(name, p.Name), Subjects: subject,
					RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
				})
		}
		if len(p.Namespaced) > 0 {
			all = append(all,
				&rbacv1.Role{
					TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "Role"},
					ObjectMeta: o.objectMeta(p.Name, p.Name), Rules: p.Namespaced,
				},
				&rbacv1.RoleBinding{
					TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "RoleBinding"},
					ObjectMeta: o.objectMeta(p.Name, p.Name), Subjects: subject,
					RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: p.Name},
				})
		}
	}
	return append(all, o.secretReaders()...)
}

// secretReaders let the operator read and watch, by name, the Secrets and ConfigMaps of the
// namespaces that a user chose. That is by default of none: who may do so
// everywhere may read every secret of the cluster.
func (o *Options) secretReaders() []client.Object {
	name := o.Namespace + "-" + operatorName
	var all []client.Object
	for _, namespace := range o.SecretsFrom {
		meta := clusterMeta(name, operatorName)
		meta.Namespace = namespace
		all = append(all,
			&rbacv1.Role{
				TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "Role"},
				ObjectMeta: *meta.DeepCopy(),
				Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets", "configmaps"}, Verbs: []string{"get", "watch"}}},
			},
			&rbacv1.RoleBinding{
				TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "RoleBinding"},
				ObjectMeta: *meta.DeepCopy(),
				Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: operatorName, Namespace: o.Namespace}},
				RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
			})
	}
	return all
}
