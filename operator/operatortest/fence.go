//go:build apiserver

package operatortest

import (
	"context"
	"fmt"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
	"github.com/nationtech/fleetctl/operator/crd"
)

// fleet-server runs an operator of its own. So that it does not take part in
// the tests, a policy refuses what it writes: only the tests' identity may
// change the fleet's objects.

const (
	testUser  = "operator-test"
	fenceName = "operator-test"
)

// asTester is the configuration of the tests' identity.
func asTester(admin *rest.Config) *rest.Config {
	out := rest.CopyConfig(admin)
	out.Impersonate = rest.ImpersonationConfig{UserName: testUser, Groups: []string{"system:masters"}}
	return out
}

func fence(ctx context.Context, admin *rest.Config) error {
	if err := crd.Install(ctx, admin); err != nil {
		return err
	}
	kube, err := kubernetes.NewForConfig(admin)
	if err != nil {
		return err
	}
	policies := kube.AdmissionregistrationV1()
	if _, err := policies.ValidatingAdmissionPolicies().Create(ctx, policy(), metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create policy: %w", err)
	}
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: fenceName},
		Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: fenceName, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
		},
	}
	if _, err := policies.ValidatingAdmissionPolicyBindings().Create(ctx, binding, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("bind policy: %w", err)
	}
	return awaitFence(ctx, admin)
}

func policy() *admissionv1.ValidatingAdmissionPolicy {
	fail := admissionv1.Fail
	return &admissionv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: fenceName},
		Spec: admissionv1.ValidatingAdmissionPolicySpec{
			FailurePolicy: &fail,
			MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{
				RuleWithOperations: admissionv1.RuleWithOperations{
					Operations: []admissionv1.OperationType{admissionv1.Create, admissionv1.Update, admissionv1.Delete},
					Rule: admissionv1.Rule{
						APIGroups: []string{v1alpha1.GroupVersion.Group}, APIVersions: []string{"*"}, Resources: []string{"*/*"},
					},
				},
			}}},
			Validations: []admissionv1.Validation{{Expression: "request.userInfo.username == '" + testUser + "'", Message: "only the tests write here"}},
		},
	}
}

// awaitFence waits until the policy is in force.
func awaitFence(ctx context.Context, admin *rest.Config) error {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return err
	}
	c, err := client.New(admin, client.Options{Scheme: scheme})
	if err != nil {
		return err
	}
	return wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		probe := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Name: "fence-probe"}}
		err := c.Create(ctx, probe, client.DryRunAll)
		if err == nil {
			return false, nil
		}
		if apierrors.IsInvalid(err) || apierrors.IsForbidden(err) {
			return true, nil
		}
		return false, fmt.Errorf("probe the policy: %w", err)
	})
}
