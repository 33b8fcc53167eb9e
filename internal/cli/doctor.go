package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/vm/libvirt"
)

type doctorOptions struct {
	connect string
	fix     bool
	yes     bool
}

func newDoctorCmd(f *Factory) *cobra.Command {
	o := &doctorOptions{}
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine lacks, each with what fixes it",
		Long: `Looks at everything that fleetctl needs on this machine and changes nothing. It
fails when something is missing without which a command cannot work. With --fix
it first installs what virtual machines need, after showing what it would do.`,
		Example: `  fleetctl doctor
  sudo fleetctl doctor --fix
  fleetctl doctor --connect qemu+ssh://me@server/system --output json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDoctor(cmd.Context(), f, o) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&o.connect, "connect", "c", libvirt.DefaultURI, "libvirt `URI`")
	flags.BoolVar(&o.fix, "fix", false, "install what is missing, after asking; needs root")
	flags.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	return cmd
}

// finding is what doctor says of one thing.
type finding struct {
	Check  string `json:"check"`
	Status string `json:"status"` // ok, note (it works, but) or missing
	Detail string `json:"detail"`
	Fix    string `json:"fix,omitempty"`
}

const (
	findingOK      = "ok"
	findingNote    = "note"
	findingMissing = "missing"
)

// doctorResult is what scripts get.
type doctorResult struct {
	SchemaVersion int       `json:"schemaVersion"`
	Missing       int       `json:"missing"`
	Findings      []finding `json:"findings"`
}

func runDoctor(ctx context.Context, f *Factory, o *doctorOptions) error {
	if o.fix {
		changed, err := o.install(ctx, f)
		if err != nil {
			return err
		}
		if changed {
			return o.lookAgain(ctx, f)
		}
	}
	result := doctorResult{SchemaVersion: 1, Findings: diagnose(ctx, f, o.connect)}
	for _, found := range result.Findings {
		if found.Status == findingMissing {
			result.Missing++
		}
	}
	err := f.Print(result, func(w io.Writer) error {
		for _, found := range result.Findings {
			fmt.Fprintf(w, "%-8s %-20s %s\n", found.Status, found.Check, printable(found.Detail))
			if found.Fix != "" {
				fmt.Fprintf(w, "%-8s %-20s fix: %s\n", "", "", found.Fix)
			}
		}
		return nil
	})
	if err == nil && result.Missing > 0 {
		err = errors.New("something is missing; see above")
		if !o.fix {
			err = hint.Wrap(err, "install what virtual machines need with: sudo fleetctl doctor --fix")
		}
	}
	return err
}
