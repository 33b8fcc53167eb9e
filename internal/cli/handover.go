package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/internal/beside"
	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/vm/libvirt"
)

// withLibvirt is fleetctl built with libvirt. Opening that library takes longer
// than all else that starts, and few commands need it:
// docs/decisions/0020-libvirt-beside-fleetctl.md.
const withLibvirt = "fleetctl-vm"

// usesLibvirt marks a command, and those below it.
const usesLibvirt = "fleetctl.nationtech.io/libvirt"

func markLibvirt(cmd *cobra.Command) *cobra.Command {
	cmd.Annotations = map[string]string{usesLibvirt: ""}
	return cmd
}

// handOver becomes the program with libvirt if cmd needs one and this has none.
// Where there is no such program cmd goes on, and says so when it opens libvirt.
func handOver(cmd *cobra.Command) error {
	if libvirt.Linked {
		return nil
	}
	for ; cmd != nil; cmd = cmd.Parent() {
		if _, marked := cmd.Annotations[usesLibvirt]; marked {
			return becomeWithLibvirt()
		}
	}
	return nil
}

// becomeWithLibvirt does not return if it can help it.
func becomeWithLibvirt() error {
	if filepath.Base(os.Args[0]) == withLibvirt {
		return nil // built without it all the same
	}
	path, err := beside.Find(withLibvirt)
	if err != nil {
		return nil //nolint:nilerr // the command says it better
	}
	err = syscall.Exec(path, append([]string{path}, os.Args[1:]...), os.Environ()) //nolint:gosec // of our own installation
	return hint.Wrap(fmt.Errorf("run %s: %w", path, err), "it is linked against this system's C library: build it here with make fleetctl-vm")
}
