package fleetsim

import (
	"context"
	"fmt"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

const wrongListed = 10

// judge compares every status with the sum of what the devices reported, for as
// long as it takes the operator to see the last report.
func (f *fleet) judge(ctx context.Context) error {
	for _, g := range f.groups {
		if c := g.change.Load(); c != nil {
			f.result.HintsMissed += int(c.missing.Load())
		}
	}
	f.result.Hints = f.hints.count()
	f.result.HintP50, f.result.HintP99 = f.hints.quantile(0.5), f.hints.quantile(0.99)

	deadline := time.Now().Add(settleLimit)
	for {
		list := &v1alpha1.DeploymentList{}
		if err := f.Kube.List(ctx, list, client.InNamespace(f.Namespace), client.HasLabels{Label}); err != nil {
			return fmt.Errorf("read the aggregates: %w", err)
		}
		right, wrong := f.compare(list.Items)
		f.Progress("aggregates right", right, len(f.groups))
		if f.result.AggregatesRight, f.result.Wrong = right, wrong; right == len(f.groups) || time.Now().After(deadline) {
			return nil
		}
		if !sleepUntil(ctx, time.Now().Add(500*time.Millisecond)) {
			return ctx.Err()
		}
	}
}

func (f *fleet) compare(objects []v1alpha1.Deployment) (right int, wrong []string) {
	byName := map[string]*v1alpha1.Deployment{}
	for i := range objects {
		byName[objects[i].Name] = &objects[i]
	}
	for _, g := range f.groups {
		object := byName[g.name]
		if object == nil {
			wrong = append(wrong, g.name+": the object is gone")
			continue
		}
		want, got := g.sum(object.Generation), object.Status.Aggregate
		got.LastError = nil
		if object.Status.ObservedGeneration == object.Generation && got == want {
			right++
		} else if len(wrong) < wrongListed {
			wrong = append(wrong, fmt.Sprintf("%s: generation %d of %d, %+v instead of %+v", g.name, object.Status.ObservedGeneration, object.Generation, got, want))
		}
	}
	return right, wrong
}

// sum is what the Deployment's status should say.
func (g *group) sum(generation int64) v1alpha1.Aggregate {
	sum := v1alpha1.Aggregate{MatchedDeviceCount: int32(len(g.devices))} //nolint:gosec // at most 100,000
	for _, d := range g.devices {
		switch phase, known := d.phase(generation); {
		case known && phase == wire.PhaseRunning:
			sum.Succeeded++
		case known && phase == wire.PhaseFailed:
			sum.Failed++
		default:
			sum.Pending++
		}
	}
	return sum
}
