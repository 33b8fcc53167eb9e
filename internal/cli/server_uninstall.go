package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/internal/install"
)

type serverUninstallOptions struct {
	serverFlags
	purge bool
	yes   bool
	sure  string
}

func newServerUninstallCmd(f *Factory) *cobra.Command {
	o := &serverUninstallOptions{}
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Remove the control plane from a cluster",
		Long: `Removes the control plane. Devices, Deployments, the audit log and every key stay,
so that installing again goes on where it was: devices run on meanwhile. --purge
removes those too, after a second question: devices then have to be onboarded again.`,
		Example: `  fleetctl server uninstall
  fleetctl server uninstall --purge --yes --purge-namespace fleet-system`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runServerUninstall(cmd.Context(), f, o) },
	}
	flags := cmd.Flags()
	o.register(flags)
	flags.BoolVar(&o.purge, "purge", false, "remove Devices, Deployments, the audit log and keys as well")
	flags.BoolVarP(&o.yes, "yes", "y", false, "do not ask the first question")
	flags.StringVar(&o.sure, "purge-namespace", "", "`namespace` once more, as the answer to the second question")
	return cmd
}

func runServerUninstall(ctx context.Context, f *Factory, o *serverUninstallOptions) error {
	i, err := f.installer(&o.serverFlags)
	if err != nil {
		return err
	}
	options, err := i.Installed(ctx, o.namespace)
	if err != nil {
		return explainKube(err)
	}
	plan, err := i.Removal(ctx, options, o.purge)
	if err != nil {
		return explainKube(err)
	}
	for _, c := range plan.Changes {
		_, _ = fmt.Fprintf(f.Err, "%s %s\n", c.Action, c.Object)
	}
	if !o.yes {
		if err := f.Confirm(ctx, fmt.Sprintf("Remove the control plane of %s (%d objects)?", options.Domain, len(plan.Changes)), "--yes"); err != nil {
			return err
		}
	}
	if o.purge && o.sure != o.namespace {
		question := "Remove every Device, Deployment, key and audit record for good? Every device has to be onboarded again"
		if err := f.Confirm(ctx, question, "--purge-namespace "+o.namespace); err != nil {
			return err
		}
	}
	if err := i.Apply(ctx, plan); err != nil {
		return explainKube(err)
	}
	if err := i.AwaitGone(ctx, plan, o.timeout); err != nil {
		return explainKube(err)
	}
	result := struct {
		SchemaVersion int              `json:"schemaVersion"`
		Removed       []install.Change `json:"removed"`
	}{1, plan.Changes}
	return f.Print(result, func(w io.Writer) error {
		kept := "; Devices, Deployments, the audit log and keys are kept"
		if o.purge {
			kept = ""
		}
		_, err := fmt.Fprintf(w, "%d objects removed%s\n", len(plan.Changes), kept)
		return err
	})
}
