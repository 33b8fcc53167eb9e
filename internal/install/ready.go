package install

import (
	"context"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

// PartStatuses looks at each part, and at the charts of others beside them.
func (i *Installer) PartStatuses(ctx context.Context, o *Options) ([]PartStatus, error) {
	return i.statuses(ctx, o.Namespace, o.watched())
}

func (i *Installer) statuses(ctx context.Context, namespace string, watched []client.Object) ([]PartStatus, error) {
	var all []PartStatus
	for _, w := range watched {
		s, err := i.partStatus(ctx, namespace, w)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// watched are the objects whose pods an installation waits for.
func (o *Options) watched() []client.Object {
	var all []client.Object
	if o.WithNATS {
		all = append(all, &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: natsName}})
	}
	if o.WithZitadel {
		all = append(all, zitadelPods()...)
	}
	for _, p := range Parts() {
		all = append(all, &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: p.Name}})
	}
	return all
}

func (i *Installer) partStatus(ctx context.Context, namespace string, w client.Object) (PartStatus, error) {
	name := w.GetName()
	err := i.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, w)
	if apierrors.IsNotFound(err) {
		return PartStatus{Name: name, Pods: "0/0", Reason: "not installed"}, nil
	}
	if err != nil {
		return PartStatus{}, fmt.Errorf("look at %s: %w", name, err)
	}
	r := rolloutOf(w)
	s := PartStatus{Name: name, Pods: fmt.Sprintf("%d/%d", r.available, r.want), Version: r.version}
	s.Ready = r.observed >= w.GetGeneration() && r.updated >= r.want && r.available >= r.want && r.all == r.updated
	if !s.Ready {
		s.Reason, err = i.stuck(ctx, namespace, name, r)
	}
	return s, err
}

// rollout is how far a Deployment or a StatefulSet has come.
type rollout struct {
	want, all, updated, available int32
	observed                      int64
	version, refused              string // refused: why pods cannot be made
	pods                          map[string]string
}

func rolloutOf(w client.Object) rollout {
	wanted := func(replicas *int32) int32 {
		if replicas == nil {
			return 1
		}
		return *replicas
	}
	switch w := w.(type) {
	case *appsv1.Deployment:
		r := rollout{want: wanted(w.Spec.Replicas), all: w.Status.Replicas, updated: w.Status.UpdatedReplicas, available: w.Status.AvailableReplicas,
			observed: w.Status.ObservedGeneration, version: w.Spec.Template.Labels[labelVersion], pods: w.Spec.Selector.MatchLabels}
		for _, c := range w.Status.Conditions {
			if c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue {
				r.refused = c.Message
			}
		}
		return r
	case *appsv1.StatefulSet:
		return rollout{want: wanted(w.Spec.Replicas), all: w.Status.Replicas, updated: w.Status.UpdatedReplicas, available: w.Status.AvailableReplicas,
			observed: w.Status.ObservedGeneration, version: w.Spec.Template.Labels[labelVersion], pods: w.Spec.Selector.MatchLabels}
	}
	return rollout{}
}

// AwaitReady waits until every part is, and says of the one that is not why.
func (i *Installer) AwaitReady(ctx context.Context, o *Options, timeout time.Duration) error {
	return i.awaitReady(ctx, o.Namespace, o.watched, timeout)
}

func (i *Installer) awaitReady(ctx context.Context, namespace string, watched func() []client.Object, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	told := ""
	for {
		all, err := i.statuses(ctx, namespace, watched())
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

// stuck is why something is not ready: what its newest pods wait for, or why
// there are none.
func (i *Installer) stuck(ctx context.Context, namespace, name string, r rollout) (string, error) {
	if r.refused != "" {
		return r.refused, nil
	}
	pods := &corev1.PodList{}
	if err := i.Client.List(ctx, pods, client.InNamespace(namespace), client.MatchingLabels(r.pods)); err != nil {
		return "", fmt.Errorf("look at the pods of %s: %w", name, err)
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
