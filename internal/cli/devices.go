package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/internal/identity/session"
	"github.com/nationtech/fleetctl/internal/join"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
)

func newDevicesCmd(f *Factory) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "devices",
		Short: "Devices that ask to join the fleet",
		Long: `A device can ask to join by itself (fleet-agent join --server URL). It shows a code
and waits; nobody's credentials are on it. These commands list who waits, approve
one by the code that it shows, and turn others away.`,
		Example: `  fleetctl devices pending
  fleetctl devices approve pi-7 --code BCDF-GHJK
  fleetctl devices deny pi-7`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDevicesPendingCmd(f), newDevicesApproveCmd(f), newDevicesDenyCmd(f))
	return cmd
}

func newDevicesPendingCmd(f *Factory) *cobra.Command {
	return &cobra.Command{
		Use:   "pending",
		Short: "List the devices that wait for approval",
		Example: `  fleetctl devices pending
  fleetctl devices pending -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDevicesPending(cmd.Context(), f) },
	}
}

func runDevicesPending(ctx context.Context, f *Factory) error {
	server, err := f.API()
	if err != nil {
		return err
	}
	list, err := server.Joins(ctx)
	if err != nil {
		return err
	}
	return f.Print(list, func(w io.Writer) error { return writeJoins(w, list, time.Now()) })
}

func writeJoins(w io.Writer, list api.Joins, now time.Time) error {
	if len(list.Requests) == 0 {
		_, err := fmt.Fprintln(w, "no device waits; on one: fleet-agent join --server URL")
		return err
	}
	var rows [][]string
	for _, r := range list.Requests {
		note := ""
		switch {
		case r.OtherMachine:
			note = "the id is another machine's"
		case r.Known:
			note = "enrolled before"
		}
		rows = append(rows, []string{r.DeviceID, r.Address, printable(r.Facts.Model), r.Facts.Architecture, printable(r.Facts.OS),
			now.Sub(r.Asked).Round(time.Second).String(), note})
	}
	return table(w, []string{"DEVICE", "ADDRESS", "MODEL", "ARCH", "OS", "WAITS", ""}, rows)
}

type approveOptions struct {
	device string
	code   string
	orgID  string
}

func newDevicesApproveCmd(f *Factory) *cobra.Command {
	var o approveOptions
	cmd := &cobra.Command{
		Use:   "approve DEVICE",
		Short: "Make a waiting device a device of the fleet, by the code that it shows",
		Long: `Makes a waiting device a device of the fleet. Read the code from the device itself,
from its screen or its journal: it proves that the keys that wait are that device's,
and to the device that the server is yours. Your sign-in has to be an
administrator's, here and at the issuer.`,
		Example: `  fleetctl devices approve pi-7 --code BCDF-GHJK
  fleetctl devices approve pi-7`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: f.completePending,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.device = args[0]
			return runDevicesApprove(cmd.Context(), f, o)
		},
	}
	cmd.Flags().StringVar(&o.code, "code", "", "`code` that the device shows (asked for on a terminal)")
	cmd.Flags().StringVar(&o.orgID, "org-id", "", "`id` of the issuer's organisation that has the fleet's project (default: your own)")
	return cmd
}

func runDevicesApprove(ctx context.Context, f *Factory, o approveOptions) error {
	server, err := f.personAPI()
	if err != nil {
		return err
	}
	if o.code == "" {
		if o.code, err = f.askLine(ctx, "Code on the screen of "+o.device, "--code"); err != nil {
			return err
		}
	}
	if strings.TrimSpace(o.code) == "" {
		return usageError(errors.New("no code was given"), "read it from the device, and give it with --code")
	}
	device, err := server.ApproveJoin(ctx, o.device, join.Approval{Code: o.code, OrgID: o.orgID})
	if err != nil {
		return err
	}
	return f.Print(device, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "device %s is approved; it connects within seconds: fleetctl get devices\n", o.device)
		return err
	})
}

// personAPI is the server's API with a person's session where there is one, also
// for a server on this machine: the administrator's token is nobody's at the
// issuer.
func (f *Factory) personAPI() (*apiclient.Client, error) {
	server, err := f.API()
	if err != nil {
		return nil, err
	}
	t, err := f.target()
	if err != nil || t.local == nil {
		return server, err
	}
	tokens, err := f.issuerTokens(t.local.Issuer)
	if errors.Is(err, session.ErrSignedOut) {
		return server, nil
	}
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(t.local.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read the server's CA: %w", err)
	}
	return apiclient.NewWithSession(t.local.APIURL, ca, tokens)
}

func newDevicesDenyCmd(f *Factory) *cobra.Command {
	return &cobra.Command{
		Use:               "deny DEVICE",
		Short:             "Turn away what waits under an id",
		Example:           "  fleetctl devices deny pi-7",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: f.completePending,
		RunE: func(cmd *cobra.Command, args []string) error {
			server, err := f.API()
			if err != nil {
				return err
			}
			denied, err := server.DenyJoin(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return f.Print(denied, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "device %s is turned away\n", args[0])
				return err
			})
		},
	}
}

func (f *Factory) completePending(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	server, err := f.API()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list, err := server.Joins(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var ids []string
	for _, r := range list.Requests {
		ids = append(ids, r.DeviceID)
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}
