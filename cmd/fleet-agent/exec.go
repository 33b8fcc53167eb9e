package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// execWith becomes the program args[2:] with the variables of the JSON file
// args[0] (args[1] is "--"). The agent mounts itself into containers that have
// variables from Secrets: variables that Podman is told of end up on its disk.
func execWith(args []string) error {
	if len(args) < 3 || args[1] != "--" {
		return usageError("exec takes FILE -- PROGRAM [ARGUMENT...]")
	}
	data, err := os.ReadFile(args[0])
	if err != nil {
		return fmt.Errorf("read environment: %w", err)
	}
	var env map[string]string
	if json.Unmarshal(data, &env) != nil {
		return fmt.Errorf("read environment: %s is no JSON object of strings", args[0]) // its content is not quoted
	}
	for name, value := range env {
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	program, err := exec.LookPath(args[2])
	if err != nil {
		return err
	}
	return fmt.Errorf("become %s: %w", program, syscall.Exec(program, args[2:], os.Environ()))
}
