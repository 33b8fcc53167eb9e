package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

const (
	outputText = "text"
	outputJSON = "json"
)

// addOutputFlag gives cmd the flag -o and checks it before cmd runs.
func addOutputFlag(cmd *cobra.Command, output *string) {
	cmd.Flags().StringVarP(output, "output", "o", outputText, "`format` of the result: text or json")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if *output != outputText && *output != outputJSON {
			return usageError(fmt.Errorf("--output %s is not known", *output), "use --output text or json")
		}
		return nil
	}
}
