package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/install"
)

func newServerStatusCmd(f *Factory) *cobra.Command {
	o := &serverFlags{}
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how the installed control plane is, and what differs from how it should be",
		Example: `  fleetctl server status
  fleetctl server status -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runServerStatus(cmd.Context(), f, o) },
	}
	o.register(cmd.Flags())
	return cmd
}

// serverStatus is what scripts rely on.
type serverStatus struct {
	SchemaVersion int                  `json:"schemaVersion"`
	Namespace     string               `json:"namespace"`
	Options       install.Options      `json:"options"`
	Ready         bool                 `json:"ready"`
	Parts         []install.PartStatus `json:"parts"`
	Drift         []install.Change     `json:"drift"` // from what was installed
}

func runServerStatus(ctx context.Context, f *Factory, o *serverFlags) error {
	i, err := f.installer(o)
	if err != nil {
		return err
	}
	s := serverStatus{SchemaVersion: 1, Namespace: o.namespace, Ready: true, Drift: []install.Change{}}
	if s.Options, err = i.Installed(ctx, o.namespace); err != nil {
		return explainKube(err)
	}
	if s.Parts, err = i.PartStatuses(ctx, &s.Options); err != nil {
		return explainKube(err)
	}
	for _, p := range s.Parts {
		s.Ready = s.Ready && p.Ready
	}
	plan, err := i.Plan(ctx, s.Options)
	if err != nil {
		return explainKube(err)
	}
	s.Drift = append(s.Drift, plan.Changes...)
	if err := f.Print(s, s.text); err != nil {
		return err
	}
	if !s.Ready {
		return hint.Wrap(errors.New("not every part is ready"), "docs/runbook.md has what each reason means")
	}
	return nil
}

func (s serverStatus) text(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "PART\tPODS\tVERSION\tSTATE") // tabwriter keeps errors for Flush
	for _, p := range s.Parts {
		state := "ready"
		if !p.Ready {
			state = p.Reason
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", p.Name, p.Pods, p.Version, state)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, c := range s.Drift {
		if _, err := fmt.Fprintf(w, "\ndrift: %s %s\n%s", c.Action, c.Object, c.Diff); err != nil {
			return err
		}
	}
	return nil
}
