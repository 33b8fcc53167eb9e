package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

type rolloutStatusOptions struct {
	rolloutTarget
	noWait  bool
	timeout time.Duration
}

// rolloutStatusResult is what scripts get.
type rolloutStatusResult struct {
	SchemaVersion int                     `json:"schemaVersion"`
	Name          string                  `json:"name"`
	Namespace     string                  `json:"namespace"`
	Ready         string                  `json:"ready"`
	Rollout       *v1alpha1.RolloutStatus `json:"rollout,omitempty"`
}

func newRolloutStatusCmd(f *Factory) *cobra.Command {
	o := &rolloutStatusOptions{}
	cmd := rolloutCommand(f, &cobra.Command{
		Use: "status DEPLOYMENT", Short: "Wait for a rollout, and show how far it is",
		Long: `Follows a rollout until it is over. The exit code is 0 when it is complete, and 1
when it failed, was rolled back, is paused, or is not over in time.`,
		Example: "  fleetctl rollout status hello\n  fleetctl rollout status hello --no-wait -o json",
	}, &o.rolloutTarget, func(ctx context.Context) error { return runRolloutStatus(ctx, f, o) })
	cmd.Flags().BoolVar(&o.noWait, "no-wait", false, "show how far it is, and end with 0")
	cmd.Flags().DurationVar(&o.timeout, "timeout", 30*time.Minute, "how `long` to wait")
	return cmd
}

func runRolloutStatus(ctx context.Context, f *Factory, o *rolloutStatusOptions) error {
	c, err := kubeClient(f)
	if err != nil {
		return err
	}
	d, err := getDeployment(ctx, c, o.name, o.namespace)
	if err != nil {
		return err
	}
	if !o.noWait {
		if d, err = followRollout(ctx, f, c, d, o.timeout); err != nil {
			return err
		}
	}
	result := rolloutStatusResult{SchemaVersion: wire.SchemaVersion, Name: d.Name, Namespace: d.Namespace, Ready: d.Status.Ready, Rollout: d.Status.Rollout}
	if err := f.Print(result, func(w io.Writer) error { return writeRollout(w, d) }); err != nil || o.noWait {
		return err
	}
	return rolloutStopped(d)
}

// followRollout waits until the rollout is over, one way or the other. Progress
// goes to stderr, a line per change.
func followRollout(ctx context.Context, f *Factory, c client.Client, d *v1alpha1.Deployment, timeout time.Duration) (*v1alpha1.Deployment, error) {
	shown, current := "", &v1alpha1.Deployment{}
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
		return rolloutStopped(current) != nil || isDeployed(current), nil
	})
	if wait.Interrupted(err) && ctx.Err() == nil {
		return nil, hint.Wrap(fmt.Errorf("rollout of %s after %s: %w: %s", d.Name, timeout, errStuck, shown),
			"see what blocks: fleetctl describe deployment "+d.Name+" -n "+d.Namespace)
	}
	return current, explainKube(err)
}

// currentRollout is the rollout's status if it is about the present spec.
func currentRollout(d *v1alpha1.Deployment) *v1alpha1.RolloutStatus {
	if s := d.Status.Rollout; d.Spec.Rollout != nil && s != nil && s.ObservedGeneration >= d.Generation {
		return s
	}
	return nil
}

// rolloutStopped says why a rollout does not go on by itself; nil when it does,
// or is complete.
func rolloutStopped(d *v1alpha1.Deployment) error {
	if c := meta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionDegraded); c != nil && d.Spec.Rollout != nil &&
		c.ObservedGeneration >= d.Generation && c.Reason == v1alpha1.ReasonInvalidSpec {
		return hint.New(fmt.Sprintf("deployment %s cannot be run: %s", d.Name, c.Message), "correct its spec")
	}
	s := currentRollout(d)
	if s == nil {
		return nil
	}
	failed := func(next string) error {
		return hint.New(fmt.Sprintf("rollout of %s, revision %d: %s", d.Name, s.Revision, s.Message), next)
	}
	at := " " + d.Name + " -n " + d.Namespace
	switch s.Phase {
	case v1alpha1.RolloutFailed:
		return failed("go back with: fleetctl rollout undo" + at + ", or try again with: fleetctl rollout retry" + at)
	case v1alpha1.RolloutRolledBack:
		return failed("deploy what works, or make the spec say what runs: fleetctl rollout undo" + at)
	case v1alpha1.RolloutPaused:
		return failed("let it go on with: fleetctl rollout resume" + at)
	}
	return nil
}

func writeRollout(w io.Writer, d *v1alpha1.Deployment) error {
	s := d.Status.Rollout
	if s == nil {
		_, err := fmt.Fprintf(w, "deployment %s has no rollout: %s running\n", d.Name, d.Status.Ready)
		return err
	}
	fmt.Fprintf(w, "rollout of %s, revision %d: %s\n", d.Name, s.Revision, s.Phase)
	return writeRolloutDetails(w, s)
}

// writeRolloutDetails shows the counts, the groups, and the devices that are
// waited for.
func writeRolloutDetails(w io.Writer, s *v1alpha1.RolloutStatus) error {
	last := "none yet"
	if s.StableRevision != 0 {
		last = fmt.Sprint(s.StableRevision)
	}
	section(w, "", [][2]string{
		{"State", s.Message},
		{"Last good", last},
		{"Devices", fmt.Sprintf("%d updated of %d: %d ready, %d failed; %d offline", s.Updated, s.Devices, s.Ready, s.Failed, s.Offline)},
	})
	if len(s.Groups) > 0 {
		var rows [][]string
		for _, g := range s.Groups {
			rows = append(rows, []string{"  " + g.Name, fmt.Sprint(g.Devices), fmt.Sprint(g.Updated), fmt.Sprint(g.Ready), fmt.Sprint(g.Failed), fmt.Sprint(g.Offline)})
		}
		if err := table(w, []string{"  GROUP", "DEVICES", "UPDATED", "READY", "FAILED", "OFFLINE"}, rows); err != nil {
			return err
		}
	}
	if len(s.WaitingFor) == 0 {
		return nil
	}
	var rows [][]string
	for _, b := range s.WaitingFor {
		rows = append(rows, []string{"  " + b.DeviceID, b.Reason, b.Message})
	}
	return table(w, []string{"  WAITING FOR", "REASON", "MESSAGE"}, rows)
}
