package operator

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// rolloutStops is why a rollout does not bring the spec to every device; "" when
// it does.
func rolloutStops(v *deploymentView) (reason, message string) {
	if v.rollout == nil {
		return "", ""
	}
	switch v.rollout.Phase {
	case v1alpha1.RolloutFailed:
		return v1alpha1.ReasonRolloutFailed, v.rollout.Message
	case v1alpha1.RolloutRollingBack:
		return v1alpha1.ReasonRollingBack, v.rollout.Message
	case v1alpha1.RolloutRolledBack:
		return v1alpha1.ReasonRolledBack, v.rollout.Message
	}
	return "", ""
}

// rolling is the condition Progressing of a Deployment with a rollout.
func rolling(s *v1alpha1.RolloutStatus) metav1.Condition {
	is := func(holds bool, reason string) metav1.Condition {
		return condition(v1alpha1.ConditionProgressing, holds, reason, s.Message)
	}
	switch s.Phase {
	case v1alpha1.RolloutPaused:
		return is(false, v1alpha1.ReasonRolloutPaused)
	case v1alpha1.RolloutComplete:
		return is(false, v1alpha1.ReasonRolloutComplete)
	case v1alpha1.RolloutFailed:
		return is(false, v1alpha1.ReasonRolloutFailed)
	case v1alpha1.RolloutRollingBack:
		return is(true, v1alpha1.ReasonRollingBack)
	case v1alpha1.RolloutRolledBack:
		return is(false, v1alpha1.ReasonRolledBack)
	}
	return is(true, v1alpha1.ReasonRollingOut)
}
