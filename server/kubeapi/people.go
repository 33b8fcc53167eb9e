package kubeapi

import (
	"context"
	"fmt"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
)

// peoplePrefix sets users and groups of an issuer apart from the cluster's own:
// whatever it calls somebody, that is no "system:masters".
const peoplePrefix = "fleet:"

// People accepts an issuer's tokens of people: the user is its
// preferred_username, groups are the roles in rolesClaim, an object whose keys
// they are. A token without the claim is refused: upstream's claims know no "in".
func People(issuerURL string, caPEM []byte, audience, rolesClaim string) apiserverv1.JWTAuthenticator {
	roles := fmt.Sprintf("dyn(claims[%q])", rolesClaim) // the claims are of any type, which has no keys
	return apiserverv1.JWTAuthenticator{
		Issuer: apiserverv1.Issuer{URL: issuerURL, CertificateAuthority: string(caPEM), Audiences: []string{audience}},
		ClaimMappings: apiserverv1.ClaimMappings{
			Username: apiserverv1.PrefixedClaimOrExpression{Claim: "preferred_username", Prefix: ptr.To(peoplePrefix)},
			Groups: apiserverv1.PrefixedClaimOrExpression{
				Expression: fmt.Sprintf("%s.map(role, %q + string(role))", roles, peoplePrefix)},
		},
	}
}

// Role is what a group of people may do.
type Role struct {
	Name  string // of the role at the issuer
	Rules []rbacv1.PolicyRule
	// Everything makes it a cluster administrator's.
	Everything bool
}

// BindRoles makes the roles and binds each to the group of the same name. What
// was there under its name is replaced.
//
// The built-in "edit" would not do for operators: in every namespace it makes
// service accounts and their tokens, kube-system's too, and so administrators.
func BindRoles(ctx context.Context, access *rest.Config, roles []Role) error {
	client, err := kubernetes.NewForConfig(access)
	if err != nil {
		return fmt.Errorf("bind roles: %w", err)
	}
	for _, r := range roles {
		name := peoplePrefix + r.Name
		ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name}
		if r.Everything {
			ref.Name = "cluster-admin"
		} else if err := putRole(ctx, client, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: r.Rules}); err != nil {
			return fmt.Errorf("make role %s: %w", name, err)
		}
		if err := putBinding(ctx, client, &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: ref,
			Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: name}}}); err != nil {
			return fmt.Errorf("bind role %s: %w", name, err)
		}
	}
	return nil
}

func putRole(ctx context.Context, client kubernetes.Interface, role *rbacv1.ClusterRole) error {
	roles := client.RbacV1().ClusterRoles()
	_, err := roles.Create(ctx, role, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = roles.Update(ctx, role, metav1.UpdateOptions{})
	}
	return err
}

func putBinding(ctx context.Context, client kubernetes.Interface, binding *rbacv1.ClusterRoleBinding) error {
	bindings := client.RbacV1().ClusterRoleBindings()
	_, err := bindings.Create(ctx, binding, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = bindings.Update(ctx, binding, metav1.UpdateOptions{})
	}
	return err
}
