package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/firmware"
	"github.com/nationtech/fleetctl/vm"
	"github.com/nationtech/fleetctl/vm/libvirt"
)

// vmFactory is what the vm commands share: which hypervisor.
type vmFactory struct {
	*Factory
	connect string
}

func newVMCmd(f *Factory) *cobra.Command {
	v := &vmFactory{Factory: f}
	cmd := &cobra.Command{
		Use:   "vm",
		Short: "Make virtual machines that stand in for devices",
		Long: `Makes virtual machines of either architecture on a libvirt, here or on another
machine, reached by SSH once they are up. Only machines that fleetctl made are
listed, changed or deleted.`,
	}
	cmd.PersistentFlags().StringVarP(&v.connect, "connect", "c", libvirt.DefaultURI, "libvirt `URI`, such as qemu+ssh://user@host/system")
	cmd.AddCommand(
		newVMCreateCmd(v), newVMListCmd(v), newVMInfoCmd(v), newVMSSHCmd(v),
		newVMPowerCmd(v, powerStart), newVMPowerCmd(v, powerStop), newVMPowerCmd(v, powerRestart), newVMPowerCmd(v, powerCycle),
		newVMDeleteCmd(v), newVMSnapshotCmd(v), newVMResizeCmd(v), newVMConsoleCmd(v), newVMCopyCmd(v), newVMForwardCmd(v),
	)
	return cmd
}

// hypervisor connects; the caller closes.
func (v *vmFactory) hypervisor(ctx context.Context) (*libvirt.Hypervisor, error) {
	cache, err := v.CacheDir()
	if err != nil {
		return nil, err
	}
	return libvirt.Open(ctx, libvirt.Config{
		URI:      v.connect,
		CacheDir: cache,
		Firmware: firmware.NewFinder(userConfigHome()),
		Log:      v.Log(),
		Report:   func(line string) { fmt.Fprintln(v.Err, line) },
	})
}

// userConfigHome is $XDG_CONFIG_HOME, where QEMU looks for a user's firmware.
func userConfigHome() string {
	dir, err := os.UserConfigDir()
	if err != nil {
		return ""
	}
	return dir
}

// vmKeyPath is the key pair that fleetctl makes for its machines.
func (f *Factory) vmKeyPath() (string, error) {
	dir, err := f.ConfigDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "id_ed25519"), nil
}

// completeVMs completes machine names; a hypervisor that cannot be reached
// completes nothing.
func (v *vmFactory) completeVMs(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if err := handOver(cmd); err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	h, err := v.hypervisor(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer h.Close()
	machines, err := h.List(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := make([]cobra.Completion, 0, len(machines))
	for _, m := range machines {
		names = append(names, cobra.CompletionWithDesc(m.Name, fmt.Sprintf("%s, %s", m.Arch, m.State)))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// vmResult is what scripts get of one machine.
type vmResult struct {
	SchemaVersion int `json:"schemaVersion"`
	vm.VM
}

// vmListResult is what scripts get of several.
type vmListResult struct {
	SchemaVersion int     `json:"schemaVersion"`
	VMs           []vm.VM `json:"vms"`
}
