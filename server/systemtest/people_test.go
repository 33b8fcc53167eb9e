package systemtest

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
)

// TestRolesInKubernetes: what each role's group may do, as the real API server
// decides it, and who somebody is who signed in at the server's issuer.
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
	testSignedIn(t, p)
	testRegistrationIsGuarded(t, p)
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

// testSignedIn: the first administrator's token opens Kubernetes and the HTTPS
// API, and a changed one opens nothing.
func testSignedIn(t *testing.T, p *process) {
	token := signIn(t, p, "admin", strings.TrimSpace(read(t, p.ready.AdminPasswordFile)))
	as := func(token string) kubernetes.Interface {
		config := rest.AnonymousClientConfig(p.admin())
		config.BearerToken = token
		c, err := kubernetes.NewForConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	// The API server fetches the issuer's keys once it is up itself.
	eventually(t, "the token to be accepted", func(ctx context.Context) (bool, error) {
		review, err := as(token).AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
		if apierrors.IsUnauthorized(err) {
			return false, nil
		}
		if err == nil && (review.Status.UserInfo.Username != "fleet:admin" || !slices.Contains(review.Status.UserInfo.Groups, "fleet:fleet-admin")) {
			t.Errorf("Kubernetes says this is %+v", review.Status.UserInfo)
		}
		return err == nil, err
	})
	if _, err := as(token).CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Errorf("secrets as an administrator: %v", err)
	}
	forged := token[:len(token)-8] + "AAAAAAAA"
	if _, err := as(forged).CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{}); !apierrors.IsUnauthorized(err) {
		t.Errorf("a token with another signature: %v", err)
	}
	for token, code := range map[string]int{token: 0, forged: hint.CodeAuth} {
		api, err := apiclient.New(p.ready.APIURL, []byte(read(t, p.ready.CAFile)), token)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := api.Audit(t.Context(), apiclient.AuditQuery{}); hint.Code(err) != code {
			t.Errorf("the audit log: %v, want exit code %d", err, code)
		}
	}
}
