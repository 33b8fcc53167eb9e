package operator

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
	"github.com/nationtech/fleetctl/operator/rollup"
)

// deploymentStatus is the status that follows from a view. before gives the
// times of conditions that have not changed.
func deploymentStatus(v *deploymentView, before []metav1.Condition, now time.Time) v1alpha1.DeploymentStatus {
	s := v.summary
	out := v1alpha1.DeploymentStatus{
		ObservedGeneration: v.generation,
		Ready:              fmt.Sprintf("%d/%d", s.Succeeded, s.Matched),
		Aggregate: v1alpha1.Aggregate{
			MatchedDeviceCount: s.Matched, Succeeded: s.Succeeded, Failed: s.Failed, Pending: s.Pending,
		},
	}
	if e := s.LastError; e != nil {
		out.Aggregate.LastError = &v1alpha1.DeviceError{DeviceID: e.Device, Message: e.Message, At: metav1.NewTime(e.At.Truncate(time.Second))}
	}
	out.Rollout = v.rollout
	for _, c := range before {
		out.Conditions = append(out.Conditions, *c.DeepCopy())
	}
	for _, c := range []metav1.Condition{available(v), progressing(v), degraded(v), nameConflict(v)} {
		c.ObservedGeneration, c.LastTransitionTime = v.generation, metav1.NewTime(now)
		meta.SetStatusCondition(&out.Conditions, c)
	}
	return out
}

func condition(name string, holds bool, reason, message string) metav1.Condition {
	status := metav1.ConditionFalse
	if holds {
		status = metav1.ConditionTrue
	}
	return metav1.Condition{Type: name, Status: status, Reason: reason, Message: message}
}

func available(v *deploymentView) metav1.Condition {
	s := v.summary
	no := func(reason, message string) metav1.Condition {
		return condition(v1alpha1.ConditionAvailable, false, reason, message)
	}
	switch {
	case v.takenBy != "":
		return no(v1alpha1.ReasonNameTaken, takenMessage(v))
	case v.invalid != nil:
		return no(v1alpha1.ReasonInvalidSpec, invalidMessage(v))
	case s.Matched == 0:
		return no(v1alpha1.ReasonNoMatch, "no device has labels that targetSelector matches")
	}
	if reason, message := rolloutStops(v); reason != "" {
		return no(reason, message)
	}
	switch {
	case s.Failed > 0:
		return no(v1alpha1.ReasonDevicesFailed, failedMessage(s))
	case s.Pending > 0:
		return no(v1alpha1.ReasonDevicesPending, pendingMessage(s))
	}
	return condition(v1alpha1.ConditionAvailable, true, v1alpha1.ReasonAllRunning, fmt.Sprintf("all of %s run it", devices(s.Matched)))
}

func progressing(v *deploymentView) metav1.Condition {
	if v.rollout != nil {
		return rolling(v.rollout)
	}
	if v.summary.Pending > 0 {
		return condition(v1alpha1.ConditionProgressing, true, v1alpha1.ReasonDevicesPending, pendingMessage(v.summary))
	}
	return condition(v1alpha1.ConditionProgressing, false, v1alpha1.ReasonSettled, "no device has yet to report")
}

func degraded(v *deploymentView) metav1.Condition {
	if v.invalid != nil {
		return condition(v1alpha1.ConditionDegraded, true, v1alpha1.ReasonInvalidSpec, invalidMessage(v))
	}
	if reason, message := rolloutStops(v); reason != "" {
		return condition(v1alpha1.ConditionDegraded, true, reason, message)
	}
	if v.summary.Failed > 0 {
		return condition(v1alpha1.ConditionDegraded, true, v1alpha1.ReasonDevicesFailed, failedMessage(v.summary))
	}
	return condition(v1alpha1.ConditionDegraded, false, v1alpha1.ReasonAsDesired, "no device has failed")
}

func nameConflict(v *deploymentView) metav1.Condition {
	if v.takenBy != "" {
		return condition(v1alpha1.ConditionNameConflict, true, v1alpha1.ReasonNameTaken, takenMessage(v))
	}
	return condition(v1alpha1.ConditionNameConflict, false, v1alpha1.ReasonNameUnique, "no older deployment has the name")
}

func takenMessage(v *deploymentView) string {
	return fmt.Sprintf("an older deployment in namespace %s has this name, and devices see no namespaces: rename or delete one of them", v.takenBy)
}

// maxInvalid keeps a condition's message readable; the API allows 32 KiB.
const maxInvalid = 2048

func invalidMessage(v *deploymentView) string {
	text := strings.ReplaceAll(v.invalid.Error(), "\n", "; ")
	if len(text) > maxInvalid {
		text = strings.ToValidUTF8(text[:maxInvalid], "") + "…"
	}
	return text + " (devices keep what they run)"
}

func failedMessage(s rollup.Summary) string {
	text := fmt.Sprintf("%s of %d failed", devices(s.Failed), s.Matched)
	if e := s.LastError; e != nil {
		text += fmt.Sprintf("; %s: %s", e.Device, e.Message)
	}
	return text
}

func pendingMessage(s rollup.Summary) string {
	text := "waiting for " + strings.Join(s.Waiting, ", ")
	if more := int(s.Pending) - len(s.Waiting); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

func devices(n int32) string {
	if n == 1 {
		return "1 device"
	}
	return fmt.Sprintf("%d devices", n)
}
