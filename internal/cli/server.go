package cli

import "github.com/spf13/cobra"

func newServerCmd(f *Factory) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "server",
		Short:   "What a control plane needs around it",
		Example: `  fleetctl server setup-identity --issuer https://id.example.com --token-stdin < token`,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newSetupIdentityCmd(f))
	return cmd
}
