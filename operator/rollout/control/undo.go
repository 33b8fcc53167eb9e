package control

import (
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// Undo makes a former revision the Deployment's spec again: the one numbered
// to, or with to = 0 the last good one, or else the one before the present.
// How it reaches the devices is for spec.rollout to say.
func Undo(ctx context.Context, c client.Client, key types.NamespacedName, to int64) (Revision, error) {
	var chosen Revision
	err := retry.OnError(retry.DefaultBackoff, apierrors.IsConflict, func() error {
		d := &v1alpha1.Deployment{}
		if err := c.Get(ctx, key, d); err != nil {
			return fmt.Errorf("look for deployment %s: %w", key.Name, err)
		}
		history, err := History(ctx, c, d)
		if err != nil {
			return err
		}
		if chosen, err = choose(apart(history), to); err != nil {
			return err
		}
		return applyScore(ctx, c, d, chosen.Score)
	})
	return chosen, err
}

// apart takes for current what differs from the present revision in a restart
// alone: to go back to it would change nothing.
func apart(history []Revision) []Revision {
	out := slices.Clone(history)
	i := slices.IndexFunc(history, func(r Revision) bool { return r.Current })
	if i < 0 {
		return out
	}
	for k := range out {
		out[k].Current = out[k].Current || sameContent(&out[k].Score, &history[i].Score)
	}
	return out
}

func sameContent(a, b *v1alpha1.Score) bool {
	x, y := *a, *b
	x.RestartedAt, y.RestartedAt = nil, nil
	one, err := x.Fingerprint()
	if err != nil {
		return false
	}
	two, err := y.Fingerprint()
	return err == nil && one == two
}

// choose picks the revision to go back to; history has the newest first.
func choose(history []Revision, to int64) (Revision, error) {
	for _, r := range history {
		switch {
		case to != 0 && r.Number == to && r.Current:
			return r, fmt.Errorf("revision %d: %w", to, ErrCurrent)
		case to != 0 && r.Number == to, to == 0 && r.Stable && !r.Current:
			return r, nil
		}
	}
	if to != 0 {
		return Revision{}, fmt.Errorf("revision %d: %w", to, ErrNoRevision)
	}
	for _, r := range history {
		if !r.Current {
			return r, nil
		}
	}
	return Revision{}, fmt.Errorf("there is no revision before this one: %w", ErrNoRevision)
}

// applyScore applies the whole spec with another score as `fleetctl deploy`
// does, so that the next deploy finds its own fields. What FieldManager owns is
// left out.
func applyScore(ctx context.Context, c client.Client, d *v1alpha1.Deployment, score v1alpha1.Score) error {
	spec := d.Spec.DeepCopy()
	spec.Score, spec.Score.RestartedAt = score, nil // which stays as it is
	if spec.Rollout != nil {
		spec.Rollout.Paused, spec.Rollout.Attempt = false, 0
	}
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&v1alpha1.Deployment{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{
			Name: d.Name, Namespace: d.Namespace, UID: d.UID, ResourceVersion: d.ResourceVersion,
		},
		Spec: *spec,
	})
	if err != nil {
		return fmt.Errorf("encode deployment %s: %w", d.Name, err)
	}
	delete(object, "status")
	if metadata, ok := object["metadata"].(map[string]any); ok {
		delete(metadata, "creationTimestamp")
	}
	u := &unstructured.Unstructured{Object: object}
	err = c.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(v1alpha1.ManagerCLI), client.ForceOwnership)
	if err != nil {
		return fmt.Errorf("apply deployment %s: %w", d.Name, err)
	}
	return nil
}
