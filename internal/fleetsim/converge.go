package fleetsim

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// converge waits until every agent runs what it should and every status says
// so, and fails at once when an agent did something without cause.
func (s *soak) converge(ctx context.Context) error {
	deadline := time.Now().Add(s.Limit)
	for {
		for _, a := range s.agents {
			if err := a.problem(); err != nil {
				return err
			}
		}
		behind := s.behind(ctx)
		if behind == nil {
			s.gone.Clear()
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %s: %w", s.Limit, behind)
		}
		if !sleepUntil(ctx, time.Now().Add(250*time.Millisecond)) {
			return ctx.Err()
		}
	}
}

// behind is the first thing that is not as it should be.
func (s *soak) behind(ctx context.Context) error {
	deployments, devices := &v1alpha1.DeploymentList{}, &v1alpha1.DeviceList{}
	kube := s.Kube
	if err := kube.List(ctx, deployments, client.InNamespace(s.Namespace), client.HasLabels{Label}); err != nil {
		return err
	}
	if err := kube.List(ctx, devices, client.HasLabels{Label}); err != nil {
		return err
	}
	byName := map[string]*v1alpha1.Deployment{}
	for i := range deployments.Items {
		byName[deployments.Items[i].Name] = &deployments.Items[i]
	}
	if len(deployments.Items) != len(s.groups) || len(devices.Items) != len(s.agents) {
		return fmt.Errorf("%d deployments and %d devices, not %d and %d", len(deployments.Items), len(devices.Items), len(s.groups), len(s.agents))
	}
	for _, g := range s.groups {
		d := byName[g.name]
		if d == nil {
			return fmt.Errorf("deployment %s is not there", g.name)
		}
		want := v1alpha1.Aggregate{MatchedDeviceCount: int32(len(g.devices)), Succeeded: int32(len(g.devices))} //nolint:gosec // at most 100,000
		if d.Status.ObservedGeneration != d.Generation || d.Status.Aggregate != want {
			return fmt.Errorf("deployment %s is at generation %d of %d, %+v", g.name, d.Status.ObservedGeneration, d.Generation, d.Status.Aggregate)
		}
		for _, a := range s.agents {
			if a.group != g {
				continue
			}
			if got, want := a.runs(), fmt.Sprintf("%s generation %d", g.name, d.Generation); got != want {
				return fmt.Errorf("device %s runs %q, not %q", a.id, got, want)
			}
		}
	}
	for i := range devices.Items {
		d := &devices.Items[i]
		for _, name := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionConnected, v1alpha1.ConditionUpToDate} {
			if !meta.IsStatusConditionTrue(d.Status.Conditions, name) {
				return fmt.Errorf("device %s: %+v", d.Name, meta.FindStatusCondition(d.Status.Conditions, name))
			}
		}
	}
	return nil
}
