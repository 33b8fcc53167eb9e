//go:build cgo && libvirt_dlopen

package libvirt

import (
	"context"
	"fmt"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/vm"
)

// shutdownTime is how long a guest may take to shut down: stopping services
// has a limit of 90 s in systemd, and emulation is slow.
const shutdownTime = 3 * time.Minute

// Power implements vm.Hypervisor.
func (h *Hypervisor) Power(ctx context.Context, name string, action vm.PowerAction) error {
	unlock, err := h.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	if err := h.power(ctx, name, action); err != nil {
		return fmt.Errorf("%s %s: %w", action, name, err)
	}
	return nil
}

// power does an action; the caller holds the machine's lock.
func (h *Hypervisor) power(ctx context.Context, name string, action vm.PowerAction) error {
	if err := h.recover(ctx, name); err != nil {
		return err
	}
	domain, err := h.lookup(name)
	if err != nil {
		return err
	}
	defer domain.Free()
	switch action {
	case vm.PowerOn:
		return powerOn(domain)
	case vm.PowerOff:
		return powerOff(ctx, domain, name)
	case vm.PowerCut:
		return powerCut(domain)
	case vm.PowerCycle:
		if err := powerCut(domain); err != nil {
			return err
		}
		return powerOn(domain)
	case vm.Restart:
		if err := powerOff(ctx, domain, name); err != nil {
			return err
		}
		return powerOn(domain)
	}
	return fmt.Errorf("unknown power action %q", action)
}

func powerOn(domain *libvirt.Domain) error {
	active, err := domain.IsActive()
	if err == nil && !active {
		err = domain.Create()
	}
	if err != nil && !is(err, libvirt.ERR_OPERATION_INVALID) { // it was started meanwhile
		return plain(err)
	}
	return nil
}

func powerCut(domain *libvirt.Domain) error {
	if err := domain.Destroy(); err != nil && !is(err, libvirt.ERR_OPERATION_INVALID) { // it does not run
		return plain(err)
	}
	return nil
}

// powerOff asks again every few seconds: a guest hears nothing before its
// kernel's ACPI driver is there.
func powerOff(ctx context.Context, domain *libvirt.Domain, name string) error {
	ctx, cancel := context.WithTimeout(ctx, shutdownTime)
	defer cancel()
	poll := time.NewTicker(200 * time.Millisecond)
	defer poll.Stop()
	var asked time.Time
	for {
		active, err := domain.IsActive()
		if err != nil {
			return plain(err)
		}
		if !active {
			return nil
		}
		if time.Since(asked) > 5*time.Second {
			if err := domain.Shutdown(); err != nil && !is(err, libvirt.ERR_OPERATION_INVALID) {
				return plain(err)
			}
			asked = time.Now()
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return hint.Wrap(fmt.Errorf("the guest did not shut down: %w", ctx.Err()), "pull the plug: fleetctl vm stop --force "+name)
		}
	}
}
