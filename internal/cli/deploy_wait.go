package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// deployPoll is how often --wait looks.
const deployPoll = 200 * time.Millisecond

// errStuck is in the chain of what --wait gives up with.
var errStuck = errors.New("not done in time")

func serverSideApply(ctx context.Context, c client.Client, object map[string]any, force bool) (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{Object: object}
	options := []client.ApplyOption{client.FieldOwner(v1alpha1.ManagerCLI)}
	if force {
		options = append(options, client.ForceOwnership)
	}
	return u, c.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), options...)
}

// awaitDeployed waits until every device that matches d runs it, and gives
// "succeeded/matched". Progress goes to stderr, a line per change.
func awaitDeployed(ctx context.Context, f *Factory, c client.Client, d *v1alpha1.Deployment, timeout time.Duration) (string, error) {
	shown := ""
	current := &v1alpha1.Deployment{}
	err := wait.PollUntilContextTimeout(ctx, deployPoll, timeout, true, func(ctx context.Context) (bool, error) {
		if err := c.Get(ctx, client.ObjectKeyFromObject(d), current); err != nil {
			if ctx.Err() != nil {
				return false, nil // time is up: the poll says so
			}
			return false, explainKube(fmt.Errorf("look at deployment %s: %w", d.Name, err))
		}
		if current.UID != d.UID {
			return false, fmt.Errorf("deployment %s was replaced by another while waiting", d.Name)
		}
		if line := deploymentSummary(current); line != shown {
			shown = line
			fmt.Fprintf(f.Err, "%s: %s\n", d.Name, line)
		}
		if err := rolloutStopped(current); err != nil {
			return false, err
		}
		return isDeployed(current), nil
	})
	if wait.Interrupted(err) && ctx.Err() == nil {
		return "", hint.Wrap(fmt.Errorf("deployment %s after %s: %w: %s", d.Name, timeout, errStuck, shown),
			"see what blocks: fleetctl describe deployment "+d.Name+" -n "+d.Namespace)
	}
	if err != nil {
		return "", explainKube(err)
	}
	return current.Status.Ready, nil
}

// isDeployed says whether the operator has seen the present generation and
// every device runs it, or every one that is connected when it is rolled out.
func isDeployed(d *v1alpha1.Deployment) bool {
	if d.Spec.Rollout != nil {
		s := currentRollout(d)
		return s != nil && s.Phase == v1alpha1.RolloutComplete
	}
	return d.Status.ObservedGeneration >= d.Generation && meta.IsStatusConditionTrue(d.Status.Conditions, v1alpha1.ConditionAvailable)
}

// deploymentSummary is how far a Deployment is, in one line with the reason.
func deploymentSummary(d *v1alpha1.Deployment) string {
	if d.Status.ObservedGeneration < d.Generation {
		return "not seen by the operator yet"
	}
	line := d.Status.Ready + " running"
	if s := currentRollout(d); s != nil {
		return line + " (" + string(s.Phase) + ": " + s.Message + ")"
	}
	for _, blocking := range []struct{ condition, status string }{
		{v1alpha1.ConditionNameConflict, "True"},
		{v1alpha1.ConditionDegraded, "True"},
		{v1alpha1.ConditionAvailable, "False"},
	} {
		c := meta.FindStatusCondition(d.Status.Conditions, blocking.condition)
		if c != nil && string(c.Status) == blocking.status {
			return line + " (" + c.Reason + ": " + c.Message + ")"
		}
	}
	return line
}

func awaitDeleted(ctx context.Context, c client.Client, d *v1alpha1.Deployment, timeout time.Duration) error {
	current := &v1alpha1.Deployment{}
	err := wait.PollUntilContextTimeout(ctx, deployPoll, timeout, true, func(ctx context.Context) (bool, error) {
		err := c.Get(ctx, client.ObjectKeyFromObject(d), current)
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		if ctx.Err() != nil {
			return false, nil
		}
		return err == nil && current.UID != d.UID, err
	})
	if wait.Interrupted(err) && ctx.Err() == nil {
		return hint.Wrap(fmt.Errorf("deployment %s is still there after %s (finalizers %v): %w", d.Name, timeout, current.Finalizers, errStuck),
			"is the operator running? it removes the finalizer once no device is told to run it")
	}
	return explainKube(err)
}
