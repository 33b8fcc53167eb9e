package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
)

type rotateSigningKeyOptions struct {
	status, finish, force, cancel bool
	yes                           bool
}

func newRotateSigningKeyCmd(f *Factory) *cobra.Command {
	var o rotateSigningKeyOptions
	cmd := &cobra.Command{
		Use:   "rotate-signing-key",
		Short: "Replace the key that manifests and commands are signed with",
		Long: `Replaces the key that the control plane signs manifests and commands with, of a
server on this machine or of the context in use. Nothing restarts on devices.

It begins with a new key, which the server announces to the devices, signed by
the one that they trust. Once all devices that are connected trust both, the
server signs with the new one by itself. Devices that were away catch up when
they come back. --finish then drops the old key everywhere; it is refused while
devices do not have the new one. docs/signing-keys.md has the whole of it.`,
		Example: `  fleetctl server rotate-signing-key
  fleetctl server rotate-signing-key --status
  fleetctl server rotate-signing-key --finish
  fleetctl server rotate-signing-key --cancel`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runRotateSigningKey(cmd.Context(), f, &o) },
	}
	flags := cmd.Flags()
	flags.BoolVar(&o.status, "status", false, "show how far it is, and change nothing")
	flags.BoolVar(&o.finish, "finish", false, "drop the old key")
	flags.BoolVar(&o.force, "force", false, "with --finish: also while devices do not have the new key")
	flags.BoolVar(&o.cancel, "cancel", false, "go back to the old key, and drop the new one")
	flags.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	cmd.MarkFlagsMutuallyExclusive("status", "finish", "cancel")
	return cmd
}

func runRotateSigningKey(ctx context.Context, f *Factory, o *rotateSigningKeyOptions) error {
	if o.force && !o.finish {
		return hint.WithCode(hint.New("--force goes with --finish", "fleetctl server rotate-signing-key --finish --force"), hint.CodeUsage)
	}
	server, err := f.API()
	if err != nil {
		return err
	}
	before, err := server.SigningKey(ctx)
	if err != nil {
		return err
	}
	after := before
	if !o.status {
		if o.force {
			f.warnOfForce(before)
		}
		if question := o.question(before); question != "" && !o.yes {
			if err := f.Confirm(ctx, question, "--yes"); err != nil {
				return err
			}
		}
		switch {
		case o.finish:
			after, err = server.FinishRotation(ctx, o.force)
		case o.cancel:
			after, err = server.CancelRotation(ctx)
		default:
			after, err = server.RotateSigningKey(ctx)
		}
		if err != nil {
			return err
		}
	}
	return f.Print(after, func(w io.Writer) error { return printSigningKey(w, after) })
}

// question is what has to be answered first; "" when nothing is lost.
func (o *rotateSigningKeyOptions) question(k api.SigningKey) string {
	switch {
	case k.Phase == api.SigningIdle || !o.finish && !o.cancel:
		return ""
	case o.cancel:
		return "Drop the new signing key, and go back to " + k.Keys[0].ID + "?"
	case len(k.Lacking) > 0 && !o.force:
		return "" // the server refuses
	}
	return "Drop the old signing key " + k.Keys[0].ID + "?"
}

// warnOfForce says what becomes of the devices that do not have the new key.
func (f *Factory) warnOfForce(k api.SigningKey) {
	if k.Phase == api.SigningIdle || len(k.Lacking) == 0 {
		return
	}
	silent, others := splitLacking(k.Lacking)
	_, _ = fmt.Fprintf(f.Err, "WARNING: %d of %d devices do not trust the new key, and the old one will sign nothing any more.\n", len(k.Lacking), k.Devices)
	if len(others) > 0 {
		_, _ = fmt.Fprintf(f.Err, "WARNING: these go on trusting the old key until they connect and catch up; whoever has the old key can command them until then: %s\n", strings.Join(others, ", "))
	}
	if len(silent) > 0 {
		_, _ = fmt.Fprintf(f.Err, "WARNING: these do not say what they trust. With an agent that is too old they obey nobody any more until they are onboarded again: %s\n", strings.Join(silent, ", "))
	}
}

func splitLacking(lacking []api.LackingDevice) (silent, others []string) {
	for _, d := range lacking {
		if d.Silent {
			silent = append(silent, d.DeviceID)
		} else {
			others = append(others, d.DeviceID)
		}
	}
	return silent, others
}

func printSigningKey(w io.Writer, k api.SigningKey) error {
	const most = 50
	phase := map[api.SigningPhase]string{
		api.SigningIdle:      "idle: one key signs, and devices trust it",
		api.SigningAnnounced: "announced: devices learn of the new key, the old one signs",
		api.SigningSwitched:  "switched: the new key signs, devices trust both",
	}[k.Phase]
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(table, "%s\n\nKEY\tROLE\tSIGNS\tDEVICES THAT TRUST IT\n", phase) // tabwriter keeps errors for Flush
	for _, key := range k.Keys {
		signs := "no"
		if key.Signs {
			signs = "yes"
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%d of %d\n", key.ID, key.Role, signs, key.Devices, k.Devices)
	}
	if len(k.Lacking) > 0 {
		newest := k.Keys[len(k.Keys)-1].ID
		_, _ = fmt.Fprintf(table, "\nWITHOUT %s\tWHY\n", newest)
		// Who is connected first: there the next step is somebody's.
		lacking := slices.SortedStableFunc(slices.Values(k.Lacking), func(a, b api.LackingDevice) int {
			return rank(a) - rank(b)
		})
		for _, d := range lacking[:min(most, len(lacking))] {
			_, _ = fmt.Fprintf(table, "%s\t%s\n", d.DeviceID, why(d))
		}
		if more := len(lacking) - most; more > 0 {
			_, _ = fmt.Fprintf(table, "and %d more\tsee them with -o json\n", more)
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	next := ""
	switch {
	case k.Phase == api.SigningIdle:
	case len(k.Lacking) == 0:
		next = "\nAll devices have the new key. Drop the old one with: fleetctl server rotate-signing-key --finish\n"
	default:
		next = "\nSee how far it is with: fleetctl server rotate-signing-key --status\n"
	}
	_, err := io.WriteString(w, next)
	return err
}

func rank(d api.LackingDevice) int {
	if d.Connected {
		return 0
	}
	return 1
}

func why(d api.LackingDevice) string {
	switch {
	case d.Connected && d.Silent:
		return "connected; its agent is too old to follow: fleetctl onboard upgrades it"
	case d.Connected:
		return "connected; should have it in a moment"
	case d.Silent:
		return "offline; never said which keys it trusts"
	}
	return "offline; catches up when it comes back"
}
