//go:build cgo && libvirt_dlopen

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"sort"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/vm"
)

// Get implements vm.Hypervisor. A domain that is not ours is an error of its
// own: its name is taken, and we do not touch it.
func (h *Hypervisor) Get(_ context.Context, name string) (vm.VM, error) {
	domain, err := h.lookup(name)
	if err != nil {
		return vm.VM{}, err
	}
	defer domain.Free()
	return describe(h.conn, domain)
}

// List implements vm.Hypervisor.
func (h *Hypervisor) List(context.Context) ([]vm.VM, error) {
	domains, err := h.conn.ListAllDomains(0)
	if err != nil {
		return nil, fmt.Errorf("list domains: %w", plain(err))
	}
	all := []vm.VM{}
	for i := range domains {
		machine, err := describe(h.conn, &domains[i])
		domains[i].Free()
		switch {
		case err == nil:
			all = append(all, machine)
		case isForeign(err), is(err, libvirt.ERR_NO_DOMAIN): // not ours, or gone meanwhile
		default:
			return nil, err
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all, nil
}

// lookup finds a domain of ours.
func (h *Hypervisor) lookup(name string) (*libvirt.Domain, error) {
	domain, err := h.conn.LookupDomainByName(name)
	if is(err, libvirt.ERR_NO_DOMAIN) {
		return nil, hint.Wrap(fmt.Errorf("%w: %s", vm.ErrNotFound, name), "see: fleetctl vm list")
	}
	if err != nil {
		return nil, fmt.Errorf("look up domain %s: %w", name, plain(err))
	}
	if _, err := readMetadata(domain); err != nil {
		domain.Free()
		return nil, err
	}
	return domain, nil
}

// foreignError says that a domain was not made by fleetctl.
type foreignError struct{ name string }

func (e foreignError) Error() string {
	return fmt.Sprintf("domain %s was not made by fleetctl, which leaves it alone", e.name)
}

func isForeign(err error) bool {
	var foreign foreignError
	return errors.As(err, &foreign)
}

func readMetadata(domain *libvirt.Domain) (metadata, error) {
	text, err := domain.GetMetadata(libvirt.DOMAIN_METADATA_ELEMENT, namespace, libvirt.DOMAIN_AFFECT_CURRENT)
	if is(err, libvirt.ERR_NO_DOMAIN_METADATA) {
		name, err := domain.GetName()
		if err != nil {
			return metadata{}, fmt.Errorf("read a domain's name: %w", err)
		}
		return metadata{}, foreignError{name}
	}
	if err != nil {
		return metadata{}, fmt.Errorf("read domain metadata: %w", err)
	}
	return decodeMetadata(text)
}

// describe reads everything that vm.VM has of a domain. Errors of libvirt stay
// in the chain for is.
func describe(conn *libvirt.Connect, domain *libvirt.Domain) (vm.VM, error) {
	meta, err := readMetadata(domain)
	if err != nil {
		return vm.VM{}, err
	}
	state, _, err := domain.GetState()
	if err != nil {
		return vm.VM{}, fmt.Errorf("read domain state: %w", err)
	}
	d, err := definition(domain)
	if err != nil {
		return vm.VM{}, err
	}
	machine := fromDomain(d, meta)
	machine.State = stateOf(state, meta)
	if machine.State == vm.Running {
		machine.Address = leaseOf(conn, machine.Network, machine.MAC)
	}
	return machine, nil
}

// definition is the domain as it will be at its next start.
func definition(domain *libvirt.Domain) (libvirtxml.Domain, error) {
	var d libvirtxml.Domain
	text, err := domain.GetXMLDesc(libvirt.DOMAIN_XML_INACTIVE)
	if err != nil {
		return d, fmt.Errorf("describe domain: %w", err)
	}
	if err := d.Unmarshal(text); err != nil {
		return d, fmt.Errorf("decode domain: %w", err)
	}
	return d, nil
}

func stateOf(state libvirt.DomainState, meta metadata) vm.State {
	if meta.Phase != phaseReady {
		return vm.Creating
	}
	switch state {
	case libvirt.DOMAIN_RUNNING, libvirt.DOMAIN_BLOCKED, libvirt.DOMAIN_SHUTDOWN:
		return vm.Running
	case libvirt.DOMAIN_PAUSED, libvirt.DOMAIN_PMSUSPENDED:
		return vm.Paused
	case libvirt.DOMAIN_CRASHED:
		return vm.Crashed
	}
	return vm.Stopped
}
