package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/install"
)

func newServerTestCmd(f *Factory) *cobra.Command {
	o := &serverInstallOptions{}
	cmd := &cobra.Command{
		Use:   "test",
		Short: "Test an installation through its public URLs",
		Long: `Makes the test that ends an installation: certificate, API, OIDC discovery, and
whether the callout keeps a stranger out and lets a device in. The device is made
for the test and removed again; that takes somebody who may make accounts at the
issuer: fleetctl login.`,
		Example: `  fleetctl server test
  fleetctl server test -n fleet-staging -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runServerTest(cmd.Context(), f, o) },
	}
	o.register(cmd.Flags())
	o.registerCA(cmd.Flags())
	return cmd
}

func runServerTest(ctx context.Context, f *Factory, o *serverInstallOptions) error {
	i, err := o.readInstalled(ctx, f)
	if err != nil {
		return err
	}
	checks, err := smoke(ctx, f, i, o)
	if err != nil {
		return err
	}
	result := struct {
		SchemaVersion int             `json:"schemaVersion"`
		Checks        []install.Check `json:"checks"`
		Warnings      []string        `json:"warnings,omitempty"`
	}{1, checks, warningsOf(checks)}
	if err := f.Print(result, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, strings.Join(checkLines(checks), "\n"))
		return err
	}); err != nil {
		return err
	}
	if err := failures(checks); err != nil {
		return hint.Wrap(err, "docs/runbook.md has the cause of each")
	}
	return nil
}

// checkLines are the outcomes as a person reads them.
func checkLines(checks []install.Check) []string {
	var lines []string
	for _, c := range checks {
		mark := "ok  "
		switch {
		case c.Skipped:
			mark = "SKIP"
		case c.Failed():
			mark = "FAIL"
		}
		line := mark + "  " + c.Name
		if c.Detail != "" {
			line += ": " + c.Detail
		}
		if c.Hint != "" {
			line += "\n      " + c.Hint
		}
		lines = append(lines, line)
	}
	return lines
}

// warningsOf says what was not tested, and how to do so later.
func warningsOf(checks []install.Check) []string {
	var all []string
	for _, c := range checks {
		if c.Skipped {
			all = append(all, fmt.Sprintf("%s: %s\n  %s", c.Name, c.Detail, c.Hint))
		}
	}
	return all
}

// failures is nil when no check that was made failed.
func failures(checks []install.Check) error {
	var failed []error
	for _, c := range checks {
		if c.Failed() {
			failed = append(failed, fmt.Errorf("%s: %s", c.Name, c.Detail))
		}
	}
	return errors.Join(failed...)
}
