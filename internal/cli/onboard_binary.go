package cli

import (
	"debug/elf"
	"fmt"

	"github.com/nationtech/fleetctl/internal/beside"
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
		path, err := beside.Find("fleet-agent-linux-" + goarch)
		if err != nil {
			return "", hint.Wrap(err, "build it with make build, or name one with --agent-binary")
		}
		return path, checkAgentBinary(path, goarch)
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
