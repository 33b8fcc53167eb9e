package systemtest

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// TestRolesInKubernetes: what each role's group may do, as the real API server
// decides it, and that the issuer's tokens are asked for with its own CA.
func TestRolesInKubernetes(t *testing.T) {
	p := start(t, dataDir(t))
	for _, tt := range []struct {
		role, verb, group, resource string
		allowed                     bool
	}{
		{"fleet-viewer", "list", "fleet.nationtech.io", "deployments", true},
		{"fleet-viewer", "delete", "fleet.nationtech.io", "deployments", false},
		{"fleet-viewer", "list", "", "secrets", false},
		{"fleet-operator", "delete", "fleet.nationtech.io", "deployments", true},
		{"fleet-operator", "create", "", "serviceaccounts", false},
		{"fleet-operator", "list", "", "secrets", false},
		{"fleet-operator", "create", "rbac.authorization.k8s.io", "clusterrolebindings", false},
		{"fleet-admin", "create", "rbac.authorization.k8s.io", "clusterrolebindings", true},
		{"fleet-device", "list", "fleet.nationtech.io", "deployments", false},
	} {
		config := rest.CopyConfig(p.admin())
		config.Impersonate = rest.ImpersonationConfig{UserName: "fleet:somebody", Groups: []string{"fleet:" + tt.role}}
		as, err := kubernetes.NewForConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		review, err := as.AuthorizationV1().SelfSubjectAccessReviews().Create(t.Context(), &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: "default", Verb: tt.verb, Group: tt.group, Resource: tt.resource}},
		}, metav1.CreateOptions{})
		if tt.role == "fleet-device" && err != nil {
			continue // not even the question is allowed
		}
		if err != nil {
			t.Fatal(err)
		}
		if review.Status.Allowed != tt.allowed {
			t.Errorf("%s: %s %s: allowed is %v (%s)", tt.role, tt.verb, tt.resource, review.Status.Allowed, review.Status.Reason)
		}
	}
	// The configuration that the server runs with names the issuer.
	data, err := os.ReadFile(p.dir + "/kube/authentication.yaml")
	if err != nil || !strings.Contains(string(data), "preferred_username") {
		t.Errorf("authentication configuration: %v\n%s", err, data)
	}
	who, err := client(t, p).AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if who.Status.UserInfo.Username != "fleet-admin" {
		said, _ := json.Marshal(who.Status.UserInfo)
		t.Errorf("the data directory's own administrator is %s", said)
	}
	p.stopCleanly()
}
