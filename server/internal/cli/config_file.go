package cli

import (
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"
)

// applyConfigFile gives flags the values that a file has for them. What was
// given on the command line stays.
func applyConfigFile(flags *pflag.FlagSet, path string) error {
	if path == "" {
		return nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read --config: %w", err)
	}
	values := map[string]any{}
	if err := yaml.Unmarshal(data, &values); err != nil {
		return usageError(fmt.Errorf("read --config %s: %w", path, err), "it is YAML: one flag a line, without the dashes")
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		flag := flags.Lookup(name)
		if flag == nil || name == "config" || name == "help" {
			return usageError(fmt.Errorf("--config %s: %s is no flag", path, name), "it holds flags by their names, without the dashes")
		}
		if flag.Changed {
			continue
		}
		list, many := values[name].([]any)
		if !many {
			list = []any{values[name]}
		}
		for _, value := range list {
			if err := flags.Set(name, fmt.Sprint(value)); err != nil {
				return usageError(fmt.Errorf("--config %s: %s: %w", path, name, err), "see the flag's description: --help")
			}
		}
	}
	return nil
}
