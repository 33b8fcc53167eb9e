package cli

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nationtech/fleetctl/internal/hint"
)

// machineOf is the ELF machine of a GOARCH.
var machineOf = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64, "arm": elf.EM_ARM}

// agentBinaryFinder finds the agent for an architecture: the file that was
// named, or what lies beside fleetctl or in ../libexec/fleetctl.
func agentBinaryFinder(named string) func(goarch string) (string, error) {
	return func(goarch string) (string, error) {
		if named != "" {
			return named, checkAgentBinary(named, goarch)
		}
		self, err := os.Executable()
		if err == nil {
			self, err = filepath.EvalSymlinks(self)
		}
		if err != nil {
			return "", fmt.Errorf("find fleetctl's own directory: %w", err)
		}
		name := "fleet-agent-linux-" + goarch
		for _, dir := range []string{".", "../libexec/fleetctl"} {
			path := filepath.Join(filepath.Dir(self), dir, name)
			err := checkAgentBinary(path, goarch)
			if !errors.Is(err, fs.ErrNotExist) {
				return path, err
			}
		}
		return "", hint.New("there is no "+name+" beside fleetctl or in ../libexec/fleetctl", "build it with make build, or name one with --agent-binary")
	}
}

// checkAgentBinary refuses a file that the host could not run.
func checkAgentBinary(path, goarch string) error {
	f, err := elf.Open(path)
	if err != nil {
		return hint.Wrap(fmt.Errorf("look at the agent's binary %s: %w", path, err), "name a Linux build of fleet-agent with --agent-binary")
	}
	machine := f.Machine
	if err := f.Close(); err != nil {
		return err
	}
	if machine != machineOf[goarch] {
		return hint.New(fmt.Sprintf("the agent's binary %s is for %s, and the host is %s", path, machine, goarch), "name the right one with --agent-binary, or leave it out")
	}
	return nil
}
