package install

import (
	"context"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/hint"
)

// PartStatus is how one part is.
type PartStatus struct {
	Name    string `json:"name"`
	Ready   bool   `json:"ready"`
	Pods    string `json:"pods"` // such as 1/2
	Version string `json:"version,omitempty"`
	Reason  string `json:"reason,omitempty"` // why it is not ready
}

// PartStatuses looks at each part.
func (i *Installer) PartStatuses(ctx context.Context, namespace string) ([]PartStatus, error) {
	var all []PartStatus
	for _, p := range Parts() {
		s, err := i.partStatus(ctx, namespace, p.Name)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

func (i *Installer) partStatus(ctx context.Context, namespace, name string) (PartStatus, error) {
	d := &appsv1.Deployment{}
	err := i.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, d)
	if apierrors.IsNotFound(err) {
		return PartStatus{Name: name, Pods: "0/0", Reason: "not installed"}, nil
	}
	if err != nil {
		return PartStatus{}, fmt.Errorf("look at %s: %w", name, err)
	}
	want := int32(1)
	if d.Spec.Replicas != nil {
		want = *d.Spec.Replicas
	}
	s := PartStatus{Name: name, Pods: fmt.Sprintf("%d/%d", d.Status.AvailableReplicas, want), Version: d.Spec.Template.Labels[labelVersion]}
	s.Ready = d.Status.ObservedGeneration >= d.Generation && d.Status.UpdatedReplicas >= want &&
		d.Status.AvailableReplicas >= want && d.Status.Replicas == d.Status.UpdatedReplicas
	if !s.Ready {
		s.Reason, err = i.stuck(ctx, d)
	}
	return s, err
}

// AwaitReady waits until every part is, and says of the one that is not why.
func (i *Installer) AwaitReady(ctx context.Context, namespace string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	told := ""
	for {
		all, err := i.PartStatuses(ctx, namespace)
		if err != nil && ctx.Err() == nil {
			return err
		}
		var waiting []string
		for _, s := range all {
			if !s.Ready {
				waiting = append(waiting, fmt.Sprintf("%s has %s pods: %s", s.Name, s.Pods, s.Reason))
			}
		}
		if len(all) > 0 && len(waiting) == 0 {
			return nil
		}
		if now := strings.Join(waiting, "; "); now != "" && now != told {
			told = now
			i.say("waiting: %s", now)
		}
		if pause(ctx) != nil {
			return hint.Wrap(fmt.Errorf("not ready within %s: %s", timeout, told),
				"docs/runbook.md has what each reason means; then: fleetctl server status")
		}
	}
}

// stuck is why a Deployment is not ready: what its newest pods wait for, or why
// there are none.
func (i *Installer) stuck(ctx context.Context, d *appsv1.Deployment) (string, error) {
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue {
			return c.Message, nil
		}
	}
	pods := &corev1.PodList{}
	if err := i.Client.List(ctx, pods, client.InNamespace(d.Namespace), client.MatchingLabels(d.Spec.Selector.MatchLabels)); err != nil {
		return "", fmt.Errorf("look at the pods of %s: %w", d.Name, err)
	}
	for n := range pods.Items {
		if why := waitingFor(&pods.Items[n]); why != "" {
			return why, nil
		}
	}
	if len(pods.Items) == 0 {
		return "no pod yet", nil
	}
	return "its pods are starting", nil
}

func waitingFor(pod *corev1.Pod) string {
	for _, c := range pod.Status.ContainerStatuses {
		switch {
		case c.State.Waiting != nil && c.State.Waiting.Reason != "ContainerCreating":
			why := c.State.Waiting.Reason
			if t := c.LastTerminationState.Terminated; t != nil && t.Message != "" {
				return why + ": " + strings.TrimSpace(t.Message)
			}
			return strings.TrimSuffix(why+": "+c.State.Waiting.Message, ": ")
		case c.State.Terminated != nil:
			return fmt.Sprintf("%s, exit code %d", c.State.Terminated.Reason, c.State.Terminated.ExitCode)
		case c.State.Running != nil && !c.Ready:
			return "runs, and is not ready: see its /readyz and its log"
		}
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return "cannot be scheduled: " + c.Message
		}
	}
	return ""
}
