package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/identity/session"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/wire"
)

type revokeOptions struct {
	identityOptions
	device string
	yes    bool
}

func newRevokeCmd(f *Factory) *cobra.Command {
	var o revokeOptions
	cmd := &cobra.Command{
		Use:   "revoke DEVICE",
		Short: "Shut a device out, at once",
		Long: `Shuts a device out: the control plane denies it and disconnects it at once, then
its keys are removed at the issuer. What runs on the device goes on running; it
gets and reports nothing any more. fleetctl enroll lets it in again.`,
		Example: `  fleetctl revoke pi-7
  fleetctl revoke pi-7 --yes -o json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeDevices(f),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.device = args[0]
			return runRevoke(cmd.Context(), f, &o)
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	flags.StringVar(&o.orgID, "org-id", "", "`id` of the issuer's organisation that has the fleet's project (default: your own)")
	flags.BoolVar(&o.tokenStdin, "token-stdin", false, "read an access token, or a personal access token, for the issuer from stdin")
	return cmd
}

// revokeResult is what scripts get.
type revokeResult struct {
	SchemaVersion int    `json:"schemaVersion"`
	DeviceID      string `json:"deviceId"`
	KeysRemoved   bool   `json:"keysRemoved"` // at the issuer
}

func runRevoke(ctx context.Context, f *Factory, o *revokeOptions) error {
	end, err := o.signInOnce(ctx, f)
	if err != nil {
		return err
	}
	defer end()
	server, err := f.API()
	if err != nil {
		return err
	}
	if !o.yes {
		if err := f.Confirm(ctx, "Shut device "+o.device+" out?", "--yes"); err != nil {
			return err
		}
	}
	// First the door, which takes effect at once; the keys are the lesser thing.
	if _, err := server.Revoke(ctx, o.device); err != nil {
		return err
	}
	result := revokeResult{SchemaVersion: wire.SchemaVersion, DeviceID: o.device}
	signIn, err := server.SignIn(ctx)
	if err == nil && signIn.Issuer != "" {
		err = o.removeKeys(ctx, f, signIn)
		result.KeysRemoved = err == nil
	}
	if errors.Is(err, session.ErrSignedOut) && signIn.PSK {
		err = nil // it may have had a pre-shared key alone
	}
	if err != nil {
		return hint.WithCode(hint.Wrap(fmt.Errorf("device %s is shut out, but its keys at the issuer stay: %w", o.device, err), keysHint(err)), hint.Code(err))
	}
	return f.Print(result, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "device %s is shut out; let it in again with: fleetctl enroll HOST --device-id %[1]s\n", o.device)
		return err
	})
}

// removeKeys ends all keys of the device at the issuer.
func (o *revokeOptions) removeKeys(ctx context.Context, f *Factory, signIn api.SignIn) error {
	devices, err := o.devices(ctx, f, signIn)
	if err != nil {
		return err
	}
	account, err := devices.Look(ctx, o.device)
	if err != nil || account.UserID == "" {
		return err
	}
	return devices.Prune(ctx, account.UserID, "")
}

func keysHint(err error) string {
	if errors.Is(err, session.ErrSignedOut) {
		return "they are of no use to it; to remove them too, sign in with fleetctl login, and revoke again"
	}
	return hint.Of(err)
}
