package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
)

type auditOptions struct {
	since  time.Duration
	device string
	user   string
	limit  int
}

func newAuditCmd(f *Factory) *cobra.Command {
	var opts auditOptions
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show who did what to which device",
		Long: `Show the server's audit log: every change and every command, who asked for it,
when, from where, and what came of it. It takes the role fleet-admin.

Each record carries the hash of the one before it. A log in which a record was
edited or removed is shown, with what is wrong, and the command fails.`,
		Example: `  fleetctl audit --since 24h
  fleetctl audit --device pi-1 --user alice -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runAudit(cmd.Context(), f, opts) },
	}
	cmd.Flags().DurationVar(&opts.since, "since", 0, "only what is younger than this `duration`, such as 24h")
	cmd.Flags().StringVar(&opts.device, "device", "", "only what was done to this `device`")
	cmd.Flags().StringVar(&opts.user, "user", "", "only what this `user` did")
	cmd.Flags().IntVar(&opts.limit, "limit", 0, "the newest so `many` records (default 200)")
	return cmd
}

func runAudit(ctx context.Context, f *Factory, opts auditOptions) error {
	if opts.since < 0 || opts.limit < 0 {
		return usageError(fmt.Errorf("--since and --limit cannot be negative"), "for example: fleetctl audit --since 24h --limit 50")
	}
	api, err := f.API()
	if err != nil {
		return err
	}
	query := apiclient.AuditQuery{Device: opts.device, User: opts.user, Limit: opts.limit}
	if opts.since > 0 {
		query.Since = time.Now().Add(-opts.since)
	}
	log, err := api.Audit(ctx, query)
	if err != nil {
		return err
	}
	if len(log.Records) == 0 && f.TextOutput() {
		fmt.Fprintln(f.Err, "nothing is on record that matches")
	} else if err := f.Print(log, func(w io.Writer) error {
		var rows [][]string
		for _, r := range log.Records {
			rows = append(rows, []string{strconv.FormatUint(r.Sequence, 10), r.At.Local().Format(time.DateTime), r.Who, r.Action, r.Device, r.From, r.Outcome})
		}
		return table(w, []string{"RECORD", "AT", "WHO", "ACTION", "DEVICE", "FROM", "OUTCOME"}, rows)
	}); err != nil {
		return err
	}
	if !log.Intact {
		return hint.New("the audit log was tampered with: "+strings.Join(log.Damage, "; "),
			"compare it with the hashes in the server's log: grep audit, field hash")
	}
	return nil
}
