package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
	"github.com/nationtech/fleetctl/operator/rollout"
)

// maxGroups is how many groups a status lists.
const maxGroups = 32

// shownStatus is a status.rollout to be written.
type shownStatus struct{ v1alpha1.RolloutStatus }

func (s shownStatus) equal(o *v1alpha1.RolloutStatus) bool {
	return equality.Semantic.DeepEqual(&s.RolloutStatus, o)
}

// rolloutStatus is what people see of a rollout, and what an operator that
// starts goes on from.
func rolloutStatus(v *rolloutView, s *rollout.State, p *rollout.Picture) shownStatus {
	out := v1alpha1.RolloutStatus{
		ObservedGeneration: v.object.Generation,
		Phase:              v1alpha1.RolloutPhase(s.Phase), Message: clipText(p.Message), Attempt: s.Attempt,
		StartedAt: apiTime(s.Started), FinishedAt: apiTime(s.Finished), RolloutCounts: counts(&p.Total),
	}
	if s.Phase == rollout.Progressing && v.policy.Paused {
		out.Phase = v1alpha1.RolloutPaused
	}
	if rev := byGeneration(v.revisions, s.Target); rev != nil {
		out.Revision, out.RevisionName = rev.number, rev.name
	}
	if rev := byGeneration(v.revisions, s.Stable); rev != nil {
		out.StableRevision, out.StableRevisionName = rev.number, rev.name
	}
	if v.object.Spec.Rollout != nil && v.object.Spec.Rollout.GroupBy != "" {
		for i := range p.Groups[:min(len(p.Groups), maxGroups)] {
			out.Groups = append(out.Groups, v1alpha1.RolloutGroup{Name: p.Groups[i].Group, RolloutCounts: counts(&p.Groups[i])})
		}
	}
	for _, b := range p.Waiting {
		out.WaitingFor = append(out.WaitingFor, v1alpha1.RolloutDevice{DeviceID: b.Device, Reason: b.Reason, Message: clipText(b.Message)})
	}
	return shownStatus{out}
}

func counts(c *rollout.Counts) v1alpha1.RolloutCounts {
	return v1alpha1.RolloutCounts{
		Batch: int32(c.Batch), Devices: int32(c.Devices), Updated: int32(c.Updated), //nolint:gosec // numbers of devices
		Ready: int32(c.Ready), Failed: int32(c.Failed), Offline: int32(c.Offline), //nolint:gosec // numbers of devices
	}
}

// rolloutState reads back what rolloutStatus wrote.
func rolloutState(v *rolloutView) rollout.State {
	s := v.object.Status.Rollout
	if s == nil {
		return rollout.State{}
	}
	out := rollout.State{Phase: rollout.Phase(s.Phase), Attempt: s.Attempt, Failure: failureOf(s), Batch: int(s.Batch)}
	if s.Phase == v1alpha1.RolloutPaused {
		out.Phase = rollout.Progressing
	}
	if s.StartedAt != nil {
		out.Started = s.StartedAt.Time
	}
	if s.FinishedAt != nil {
		out.Finished = s.FinishedAt.Time
	}
	for _, rev := range v.revisions {
		if rev.name == s.RevisionName {
			out.Target = rollout.Revision(rev.generation)
		}
		if rev.name == s.StableRevisionName {
			out.Stable = rollout.Revision(rev.generation)
		}
	}
	return out
}

// failureOf takes the reason out of the message of a rollout that failed.
func failureOf(s *v1alpha1.RolloutStatus) string {
	switch s.Phase {
	case v1alpha1.RolloutFailed, v1alpha1.RolloutRollingBack, v1alpha1.RolloutRolledBack:
		return rollout.FailureIn(s.Message)
	}
	return ""
}

func apiTime(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	out := metav1.NewTime(t.Truncate(time.Second))
	return &out
}

// clipText keeps a status small: it names devices, whose messages may be long.
func clipText(s string) string {
	const most = 512
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}

// publish writes status.rollout.
func (r *rolloutReconciler) publish(ctx context.Context, v *rolloutView, run *run, out *rollout.Decision) error {
	status := rolloutStatus(v, &out.State, &out.Picture)
	patch, err := rolloutPatch(&status.RolloutStatus)
	if err != nil {
		return fmt.Errorf("encode rollout of deployment %s: %w", v.object.Name, err)
	}
	d := &v1alpha1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: v.object.Namespace, Name: v.object.Name}}
	err = r.limiter.Do(ctx, func(ctx context.Context) error {
		return r.client.Status().Patch(ctx, d, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(v1alpha1.ManagerOperator))
	})
	if err != nil {
		return fmt.Errorf("write rollout of deployment %s: %w", v.object.Name, err)
	}
	run.shown = status.RolloutStatus
	return nil
}

// rolloutPatch is a merge patch of the whole status.rollout: what is not set
// is null, so that nothing old stays.
func rolloutPatch(s *v1alpha1.RolloutStatus) ([]byte, error) {
	fields := map[string]any{}
	for _, name := range []string{"message", "stableRevision", "stableRevisionName", "attempt", "startedAt", "finishedAt", "groups", "waitingFor"} {
		fields[name] = nil
	}
	data, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{"status": map[string]any{"rollout": fields}})
}

// announceRollout tells of what a person would want to see.
func (r *rolloutReconciler) announceRollout(v *rolloutView, before, after *rollout.State) {
	if before.Phase == after.Phase && before.Target == after.Target && before.Attempt == after.Attempt {
		return
	}
	number := int64(0)
	if rev := byGeneration(v.revisions, after.Target); rev != nil {
		number = rev.number
	}
	kind, reason, note := corev1.EventTypeNormal, v1alpha1.ReasonRollingOut, fmt.Sprintf("revision %d is rolled out", number)
	switch after.Phase {
	case rollout.Complete:
		reason, note = v1alpha1.ReasonRolloutComplete, fmt.Sprintf("revision %d runs on every connected device", number)
	case rollout.Failed:
		kind, reason, note = corev1.EventTypeWarning, v1alpha1.ReasonRolloutFailed, fmt.Sprintf("revision %d was stopped: %s", number, after.Failure)
	case rollout.RollingBack:
		kind, reason, note = corev1.EventTypeWarning, v1alpha1.ReasonRollingBack, fmt.Sprintf("revision %d is taken back: %s", number, after.Failure)
	case rollout.RolledBack:
		kind, reason, note = corev1.EventTypeWarning, v1alpha1.ReasonRolledBack, fmt.Sprintf("revision %d was taken back: %s", number, after.Failure)
	}
	r.recorder.Eventf(v.object, nil, kind, reason, "Rollout", "%.512s", note)
}
