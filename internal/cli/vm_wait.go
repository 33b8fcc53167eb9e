package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nationtech/fleetctl/vm"
	"github.com/nationtech/fleetctl/vm/guest"
	"github.com/nationtech/fleetctl/vm/libvirt"
)

// waitVM waits for a machine and tells the phases on stderr.
func (v *vmFactory) waitVM(ctx context.Context, h *libvirt.Hypervisor, name string, want vm.WaitFor, timeout time.Duration, key string) (vm.VM, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return vm.Waiter{
		Hypervisor: h,
		Console:    h,
		FirstBoot:  func(ctx context.Context, machine vm.VM) (bool, error) { return firstBootDone(ctx, machine, key) },
		Report: func(phase vm.Phase, since time.Duration) {
			fmt.Fprintf(v.Err, "%s: %s after %.1f s\n", name, phase, since.Seconds())
		},
	}.Wait(ctx, name, want)
}

// firstBootDone asks cloud-init itself. Its "wait" returns 0 when all went
// well, 2 when it recovered from errors, 1 when it failed, which is an end too.
func firstBootDone(ctx context.Context, machine vm.VM, key string) (bool, error) {
	client, err := guest.Dial(ctx, guest.Target{Address: machine.Address, User: machine.User, KeyPath: key, HostKey: machine.HostKey})
	if err != nil {
		return false, err
	}
	defer client.Close()
	out, err := client.Output(ctx, "cloud-init status --wait --long")
	exit := (*guest.ExitError)(nil)
	switch {
	case err == nil, errors.As(err, &exit) && exit.Code == 2:
		return true, nil
	case exit != nil && strings.Contains(out, "status: error"):
		return true, fmt.Errorf("cloud-init failed:\n%s", strings.TrimSpace(strings.TrimLeft(out, ".")))
	}
	return false, fmt.Errorf("ask cloud-init: %w\n%s", err, out)
}
