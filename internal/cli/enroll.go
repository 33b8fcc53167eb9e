package cli

import (
	"github.com/spf13/cobra"
)

func newEnrollCmd(f *Factory) *cobra.Command {
	o := &onboardOptions{identityOptions: identityOptions{required: true}}
	cmd := &cobra.Command{
		Use:   "enroll [USER@]HOST[:PORT]... | --local | -f hosts.yaml",
		Short: "Give devices identities of their own, and onboard them",
		Long: `Gives devices identities of their own, and onboards them as fleetctl onboard does.
For each host a machine user "device-ID" with the device's role is found or made at
the issuer. The host makes its key pair; the private half never leaves it, and the
public half is registered. A plan is shown first, and nothing is changed before you
agree. Doing it again changes only what is different by then.

Your sign-in (fleetctl login) has to be an administrator's. Scripts may pipe an
access token, or a personal access token of the issuer, into --token-stdin.

On the device itself use --local. With --server you sign in for that run alone, in
a browser anywhere; nothing of your session is kept on the device.

--rotate replaces the device's keys: new ones are made and registered before the old
ones end, so that the device stays connected. What it has of Secrets is sealed to
the new key; no container is restarted.`,
		Example: `  fleetctl enroll pi@192.0.2.7 --label site=lyon
  fleetctl enroll pi@192.0.2.7 --rotate
  fleetctl enroll -f hosts.yaml --yes --output json
  fleetctl enroll pi@192.0.2.7 --yes --token-stdin < token
  sudo fleetctl enroll --local --server https://fleet.example.com:7443`,
		Args: cobra.ArbitraryArgs, // judged together with --local and --file
		RunE: func(cmd *cobra.Command, args []string) error {
			o.targets = args
			return runOnboard(cmd.Context(), f, o)
		},
	}
	o.register(cmd.Flags())
	cmd.Flags().BoolVar(&o.rotate, "rotate", false, "replace the keys of the devices by new ones")
	return cmd
}
