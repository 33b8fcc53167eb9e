package cli

import (
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/server/kubeapi"
)

// versionInfo is the JSON of the version command.
type versionInfo struct {
	SchemaVersion int    `json:"schemaVersion"`
	Version       string `json:"version"`
	Kubernetes    string `json:"kubernetes"`
	Go            string `json:"go"`
	Platform      string `json:"platform"`
}

func newVersionCmd(version string) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the versions of fleet-server and of the Kubernetes API inside",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			info := versionInfo{1, version, kubeapi.Version(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			if output == outputJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(info)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "fleet-server %s (Kubernetes API %s, %s, %s)\n", info.Version, info.Kubernetes, info.Go, info.Platform)
			return err
		},
	}
	addOutputFlag(cmd, &output)
	return cmd
}
