package cli

import (
	"encoding/json"
	"fmt"
	"io"

	"sigs.k8s.io/yaml"

	"github.com/nationtech/fleetctl/internal/hint"
)

// The values of --output.
const (
	outputText = "text"
	outputJSON = "json"
	outputYAML = "yaml"
)

func outputFormats() []string { return []string{outputText, outputJSON, outputYAML} }

// TextOutput says whether the result is for a person; a command that streams
// lines asks before it starts.
func (f *Factory) TextOutput() bool { return f.global.output == outputText }

// Print writes a command's result to stdout in the format of --output. v is
// what scripts rely on and carries a schemaVersion field; text writes the same
// for a person.
func (f *Factory) Print(v any, text func(w io.Writer) error) error {
	switch f.global.output {
	case outputText:
		return text(f.Out)
	case outputJSON:
		enc := json.NewEncoder(f.Out)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	case outputYAML:
		data, err := yaml.Marshal(v)
		if err != nil {
			return err
		}
		_, err = f.Out.Write(data)
		return err
	}
	return usageError(fmt.Errorf("unknown output format %q", f.global.output), "use --output text, json or yaml")
}

// usageError is an error in how a command was typed: exit code 2.
func usageError(err error, next string) error {
	return hint.WithCode(hint.Wrap(err, next), hint.CodeUsage)
}
