package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/rollout/control"
)

type revisionResult struct {
	Revision  int64     `json:"revision"`
	Name      string    `json:"name"` // of the DeploymentRevision
	Images    []string  `json:"images,omitempty"`
	CreatedAt time.Time `json:"createdAt"`
	Current   bool      `json:"current"`
	Stable    bool      `json:"stable"` // the last good one
}

type rolloutHistoryResult struct {
	SchemaVersion int              `json:"schemaVersion"`
	Name          string           `json:"name"`
	Namespace     string           `json:"namespace"`
	Revisions     []revisionResult `json:"revisions"` // the newest first
}

func newRolloutHistoryCmd(f *Factory) *cobra.Command {
	t := &rolloutTarget{}
	return rolloutCommand(f, &cobra.Command{
		Use: "history DEPLOYMENT", Short: "List what a deployment ran before",
		Example: "  fleetctl rollout history hello",
	}, t, func(ctx context.Context) error { return runRolloutHistory(ctx, f, t) })
}

func runRolloutHistory(ctx context.Context, f *Factory, t *rolloutTarget) error {
	c, err := kubeClient(f)
	if err != nil {
		return err
	}
	d, err := getDeployment(ctx, c, t.name, t.namespace)
	if err != nil {
		return err
	}
	revisions, err := control.History(ctx, c, d)
	if err != nil {
		return explainRollout(err, t)
	}
	result := rolloutHistoryResult{SchemaVersion: wire.SchemaVersion, Name: t.name, Namespace: t.namespace, Revisions: []revisionResult{}}
	for i := range revisions {
		result.Revisions = append(result.Revisions, newRevisionResult(&revisions[i]))
	}
	return f.Print(result, func(w io.Writer) error {
		var rows [][]string
		for _, r := range result.Revisions {
			var is []string
			if r.Current {
				is = append(is, "current")
			}
			if r.Stable {
				is = append(is, "last good")
			}
			rows = append(rows, []string{fmt.Sprint(r.Revision), strings.Join(r.Images, " "), age(r.CreatedAt, time.Now()), strings.Join(is, ", ")})
		}
		return table(w, []string{"REVISION", "IMAGES", "AGE", "IS"}, rows)
	})
}

func newRevisionResult(r *control.Revision) revisionResult {
	return revisionResult{Revision: r.Number, Name: r.Name, Images: r.Images(), CreatedAt: r.CreatedAt, Current: r.Current, Stable: r.Stable}
}

func newRolloutUndoCmd(f *Factory) *cobra.Command {
	t := &rolloutTarget{}
	var to int64
	cmd := rolloutCommand(f, &cobra.Command{
		Use: "undo DEPLOYMENT", Short: "Make a former revision the deployment's again",
		Long: `Makes a former revision the deployment's again: the last good one, or the one
before the present, or the one that is named. It reaches the devices as any
change does.`,
		Example: "  fleetctl rollout undo hello\n  fleetctl rollout undo hello --to-revision 3",
	}, t, func(ctx context.Context) error { return runRolloutUndo(ctx, f, t, to) })
	cmd.Flags().Int64Var(&to, "to-revision", 0, "`number` of the revision (default: the last good one)")
	return cmd
}

func runRolloutUndo(ctx context.Context, f *Factory, t *rolloutTarget, to int64) error {
	c, err := kubeClient(f)
	if err != nil {
		return err
	}
	r, err := control.Undo(ctx, c, t.key(), to)
	if err != nil {
		return explainRollout(err, t)
	}
	result := struct {
		SchemaVersion int            `json:"schemaVersion"`
		Name          string         `json:"name"`
		Namespace     string         `json:"namespace"`
		To            revisionResult `json:"to"` // as it was; it gets a new number
	}{wire.SchemaVersion, t.name, t.namespace, newRevisionResult(&r)}
	return f.Print(result, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "deployment %s goes back to revision %d (%s)\n", t.name, r.Number, strings.Join(r.Images(), " "))
		return err
	})
}
