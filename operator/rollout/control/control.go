// Package control is what people do to a rollout, for fleetctl and the
// dashboard: pause, resume, retry, go back, look at the history. It changes
// only the Deployment's spec, with the caller's own client and so with the
// caller's own rights; the operator does the rest.
package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// FieldManager owns spec.rollout.paused, spec.rollout.attempt and
// spec.score.restartedAt, so that a later `fleetctl deploy` leaves them as they
// are.
const FieldManager = "fleetctl-rollout"

// Errors that a caller may want to explain.
var (
	// ErrNoRollout: without spec.rollout every device gets a change at once,
	// and there is nothing to pause.
	ErrNoRollout = errors.New("the deployment has no spec.rollout: its devices get a change all at once")
	// ErrNotFailed: only a rollout that stopped for its failures is retried.
	ErrNotFailed = errors.New("the rollout has not failed")
	// ErrNoRevision: there is no such revision, or none to go back to.
	ErrNoRevision = errors.New("no such revision")
	// ErrCurrent: the Deployment is at that revision already.
	ErrCurrent = errors.New("the deployment is at that revision already")
)

// Pause stops the rollout where it is. It gives false when it was paused.
func Pause(ctx context.Context, c client.Client, key types.NamespacedName) (changed bool, err error) {
	return setPaused(ctx, c, key, true)
}

// Resume lets a paused rollout go on. It gives false when it was not paused.
func Resume(ctx context.Context, c client.Client, key types.NamespacedName) (changed bool, err error) {
	return setPaused(ctx, c, key, false)
}

func setPaused(ctx context.Context, c client.Client, key types.NamespacedName, paused bool) (changed bool, err error) {
	err = edit(ctx, c, key, func(d *v1alpha1.Deployment) error {
		changed = d.Spec.Rollout.Paused != paused
		d.Spec.Rollout.Paused = paused
		return nil
	})
	return changed, err
}

// Retry tries a rollout again that stopped for its failures, or was rolled
// back for them.
func Retry(ctx context.Context, c client.Client, key types.NamespacedName) error {
	return edit(ctx, c, key, func(d *v1alpha1.Deployment) error {
		s := d.Status.Rollout
		if s == nil || s.Phase != v1alpha1.RolloutFailed && s.Phase != v1alpha1.RolloutRolledBack && s.Phase != v1alpha1.RolloutRollingBack {
			return ErrNotFailed
		}
		d.Spec.Rollout.Attempt++
		return nil
	})
}

// Restart has every container of the Deployment made anew: a new revision with
// the same content, which its rollout brings to the devices in batches; without
// one they all get it at once.
func Restart(ctx context.Context, c client.Client, key types.NamespacedName, now time.Time) error {
	d := &v1alpha1.Deployment{}
	if err := c.Get(ctx, key, d); err != nil {
		return fmt.Errorf("look for deployment %s: %w", key.Name, err)
	}
	base := client.MergeFrom(d.DeepCopy())
	at := metav1.NewTime(now.UTC().Truncate(time.Second))
	d.Spec.Score.RestartedAt = &at
	if err := c.Patch(ctx, d, base, client.FieldOwner(FieldManager)); err != nil {
		return fmt.Errorf("change deployment %s: %w", key.Name, err)
	}
	return nil
}

// edit changes spec.rollout with a merge patch of just what changes.
func edit(ctx context.Context, c client.Client, key types.NamespacedName, change func(*v1alpha1.Deployment) error) error {
	return retry.OnError(retry.DefaultBackoff, apierrors.IsConflict, func() error {
		d := &v1alpha1.Deployment{}
		if err := c.Get(ctx, key, d); err != nil {
			return fmt.Errorf("look for deployment %s: %w", key.Name, err)
		}
		if d.Spec.Rollout == nil {
			return ErrNoRollout
		}
		base := client.MergeFromWithOptions(d.DeepCopy(), client.MergeFromWithOptimisticLock{})
		if err := change(d); err != nil {
			return err
		}
		if err := c.Patch(ctx, d, base, client.FieldOwner(FieldManager)); err != nil {
			return fmt.Errorf("change deployment %s: %w", key.Name, err)
		}
		return nil
	})
}
