package crd

import (
	"context"
	"encoding/json"
	"fmt"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	admission "k8s.io/client-go/kubernetes/typed/admissionregistration/v1"
	"k8s.io/client-go/rest"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// policyName is of the policy and of its binding.
const policyName = "device-registration.fleet.nationtech.io"

// Policy guards the registration in a Device's spec, which decides who may
// connect: RBAC lets who may label a device change all of it. Beside the verb
// update, changing spec takes the verb enroll on devices.
func Policy() (*admissionv1.ValidatingAdmissionPolicy, *admissionv1.ValidatingAdmissionPolicyBinding) {
	fail := admissionv1.Fail
	policy := &admissionv1.ValidatingAdmissionPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "ValidatingAdmissionPolicy"},
		ObjectMeta: metav1.ObjectMeta{Name: policyName},
		Spec: admissionv1.ValidatingAdmissionPolicySpec{
			FailurePolicy: &fail,
			MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{
				RuleWithOperations: admissionv1.RuleWithOperations{
					Operations: []admissionv1.OperationType{admissionv1.Create, admissionv1.Update},
					Rule: admissionv1.Rule{
						APIGroups: []string{v1alpha1.GroupVersion.Group}, APIVersions: []string{"*"}, Resources: []string{"devices"},
					},
				},
			}}},
			Validations: []admissionv1.Validation{{
				Expression: "(has(object.spec) ? object.spec : {}) == (oldObject != null && has(oldObject.spec) ? oldObject.spec : {}) || " +
					fmt.Sprintf("authorizer.group(%q).resource('devices').check(%q).allowed()", v1alpha1.GroupVersion.Group, v1alpha1.VerbEnroll),
				Message: "a device's registration is changed by enrolling or revoking it (fleetctl), or by who has the verb enroll on devices",
			}},
		},
	}
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "ValidatingAdmissionPolicyBinding"},
		ObjectMeta: metav1.ObjectMeta{Name: policyName},
		Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: policyName, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
		},
	}
	return policy, binding
}

func installPolicy(ctx context.Context, config *rest.Config) error {
	c, err := admission.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("install admission policy: %w", err)
	}
	policy, binding := Policy()
	force := true
	options := metav1.PatchOptions{FieldManager: FieldManager, Force: &force}
	data, err := json.Marshal(policy)
	if err != nil {
		return fmt.Errorf("encode admission policy: %w", err)
	}
	if _, err := c.ValidatingAdmissionPolicies().Patch(ctx, policyName, types.ApplyPatchType, data, options); err != nil {
		return fmt.Errorf("apply admission policy: %w", err)
	}
	if data, err = json.Marshal(binding); err != nil {
		return fmt.Errorf("encode admission policy: %w", err)
	}
	if _, err := c.ValidatingAdmissionPolicyBindings().Patch(ctx, policyName, types.ApplyPatchType, data, options); err != nil {
		return fmt.Errorf("bind admission policy: %w", err)
	}
	return nil
}
