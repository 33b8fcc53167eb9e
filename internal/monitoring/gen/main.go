// Command gen writes the dashboard and the rules into a directory.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/nationtech/fleetctl/internal/monitoring"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(dir string) error {
	for name, generate := range monitoring.Files() {
		data, err := generate()
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
