package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/rollout/control"
)

func newRolloutCmd(f *Factory) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rollout",
		Short: "Follow a rollout, pause it, go back, restart",
		Long: `A Deployment with a rollout (fleetctl deploy --batch) gives a change to its
devices in batches, and goes on only when those are well. Devices that are
offline hold nothing up: they catch up when they return.`,
		Example: `  fleetctl rollout status hello
  fleetctl rollout pause hello
  fleetctl rollout undo hello
  fleetctl rollout restart hello`,
	}
	cmd.AddCommand(
		newRolloutStatusCmd(f), newRolloutHistoryCmd(f), newRolloutUndoCmd(f),
		newRolloutActCmd(f, "pause", "Stop a rollout where it is", "paused", control.Pause),
		newRolloutActCmd(f, "resume", "Let a paused rollout go on", "resumed", control.Resume),
		newRolloutActCmd(f, "retry", "Try a rollout again that stopped for its failures", "tried again",
			func(ctx context.Context, c client.Client, key types.NamespacedName) (bool, error) {
				return true, control.Retry(ctx, c, key)
			}),
		newRolloutActCmd(f, "restart", "Make every container anew, in the batches of the rollout", "restarted",
			func(ctx context.Context, c client.Client, key types.NamespacedName) (bool, error) {
				return true, control.Restart(ctx, c, key, time.Now())
			}),
	)
	return cmd
}

// rolloutTarget is the Deployment that a command is about.
type rolloutTarget struct{ name, namespace string }

// rolloutCommand gives cmd what all of them have.
func rolloutCommand(f *Factory, cmd *cobra.Command, t *rolloutTarget, run func(ctx context.Context) error) *cobra.Command {
	cmd.Args = cobra.ExactArgs(1)
	cmd.ValidArgsFunction = completeDeployments(f)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		t.name = args[0]
		if t.namespace == "" {
			t.namespace = f.Namespace()
		}
		if err := wire.ValidateDeploymentName(t.name); err != nil {
			return usageError(err, "list what there is with: fleetctl get deployments")
		}
		return run(cmd.Context())
	}
	cmd.Flags().StringVarP(&t.namespace, "namespace", "n", "", "`namespace` (default: the kubeconfig's)")
	return cmd
}

func (t *rolloutTarget) key() types.NamespacedName {
	return types.NamespacedName{Namespace: t.namespace, Name: t.name}
}

// rolloutActResult is what scripts get.
type rolloutActResult struct {
	SchemaVersion int    `json:"schemaVersion"`
	Name          string `json:"name"`
	Namespace     string `json:"namespace"`
	Action        string `json:"action"`
	Changed       bool   `json:"changed"`
}

func newRolloutActCmd(f *Factory, verb, short, done string, act func(context.Context, client.Client, types.NamespacedName) (bool, error)) *cobra.Command {
	t := &rolloutTarget{}
	return rolloutCommand(f, &cobra.Command{
		Use: verb + " DEPLOYMENT", Short: short, Example: "  fleetctl rollout " + verb + " hello",
	}, t, func(ctx context.Context) error {
		c, err := kubeClient(f)
		if err != nil {
			return err
		}
		changed, err := act(ctx, c, t.key())
		if err != nil {
			return explainRollout(err, t)
		}
		result := rolloutActResult{SchemaVersion: wire.SchemaVersion, Name: t.name, Namespace: t.namespace, Action: verb, Changed: changed}
		return f.Print(result, func(w io.Writer) error {
			text := done
			if !changed {
				text = "was " + done + " already"
				if verb == "resume" {
					text = "was not paused"
				}
			}
			_, err := fmt.Fprintf(w, "rollout of %s %s\n", t.name, text)
			return err
		})
	})
}

// explainRollout says what to type next.
func explainRollout(err error, t *rolloutTarget) error {
	switch {
	case errors.Is(err, control.ErrNoRollout):
		return hint.Wrap(fmt.Errorf("deployment %s: %w", t.name, err), "give it a rollout with: fleetctl deploy "+t.name+" … --batch 10%")
	case errors.Is(err, control.ErrNotFailed):
		return hint.Wrap(fmt.Errorf("deployment %s: %w", t.name, err), "see how far it is: fleetctl rollout status "+t.name)
	case errors.Is(err, control.ErrNoRevision), errors.Is(err, control.ErrCurrent):
		return hint.Wrap(fmt.Errorf("deployment %s: %w", t.name, err), "see which there are: fleetctl rollout history "+t.name+" -n "+t.namespace)
	case apierrors.IsNotFound(err):
		return hint.New(fmt.Sprintf("there is no deployment %s in namespace %s", t.name, t.namespace),
			"list what there is with: fleetctl get deployments --all-namespaces")
	}
	return explainKube(err)
}
