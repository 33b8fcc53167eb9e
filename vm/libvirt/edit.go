//go:build cgo && libvirt_dlopen

package libvirt

import (
	"context"
	"errors"
	"fmt"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/nationtech/fleetctl/vm"
)

// editor is a machine under its lock whose domain is about to be changed.
type editor struct {
	h      *Hypervisor
	name   string
	domain *libvirt.Domain
	pool   *libvirt.StoragePool
	xml    libvirtxml.Domain
	meta   metadata
	active bool
	unlock []func()
}

// edit locks and reads a machine that is ready; close gives it back.
func (h *Hypervisor) edit(ctx context.Context, name string) (*editor, error) {
	if err := vm.CheckName(name); err != nil {
		return nil, err
	}
	unlock, err := h.lock(ctx, name)
	if err != nil {
		return nil, err
	}
	e, err := h.editLocked(ctx, name)
	if err != nil {
		unlock()
		return nil, err
	}
	e.unlock = append([]func(){unlock}, e.unlock...)
	return e, nil
}

// editLocked is edit for a caller who holds the machine's lock.
func (h *Hypervisor) editLocked(ctx context.Context, name string) (e *editor, err error) {
	e = &editor{h: h, name: name}
	defer func() {
		if err != nil {
			e.close()
		}
	}()
	unlock, err := h.lock(ctx, poolLock)
	if err != nil {
		return nil, err
	}
	e.unlock = append(e.unlock, unlock)
	if e.domain, err = h.lookup(name); err != nil {
		return nil, err
	}
	if e.meta, err = readMetadata(e.domain); err != nil {
		return nil, err
	}
	if e.meta.Phase != phaseReady {
		return nil, fmt.Errorf("the creation of %s was not finished; run the same vm create again", name)
	}
	if e.xml, err = definition(e.domain); err != nil {
		return nil, err
	}
	if e.active, err = e.domain.IsActive(); err != nil {
		return nil, fmt.Errorf("look at domain: %w", plain(err))
	}
	if e.pool, err = h.pool(); err == nil && e.pool == nil {
		err = errors.New("the storage pool " + poolName + " is gone")
	}
	if err != nil || e.meta.Resume == "" {
		return e, err
	}
	return e, e.finishSnapshot(ctx)
}

func (e *editor) close() {
	if e.pool != nil {
		e.pool.Free()
	}
	if e.domain != nil {
		e.domain.Free()
	}
	for i := len(e.unlock) - 1; i >= 0; i-- {
		e.unlock[i]()
	}
}

// save writes domain and metadata in one step.
func (e *editor) save() error {
	text, err := e.encode()
	if err != nil {
		return err
	}
	domain, err := e.h.conn.DomainDefineXMLFlags(text, libvirt.DOMAIN_DEFINE_VALIDATE)
	if err != nil {
		return fmt.Errorf("define domain: %w", plain(err))
	}
	return domain.Free()
}

func (e *editor) encode() (string, error) {
	meta, err := e.meta.encode()
	if err != nil {
		return "", err
	}
	e.xml.Metadata = &libvirtxml.DomainMetadata{XML: meta}
	text, err := e.xml.Marshal()
	if err != nil {
		return "", fmt.Errorf("encode domain: %w", err)
	}
	return text, nil
}

// disk is the machine's own disk in its domain.
func (e *editor) disk() (*libvirtxml.DomainDisk, error) {
	for i := range e.xml.Devices.Disks {
		disk := &e.xml.Devices.Disks[i]
		if disk.Target != nil && disk.Target.Dev == "vda" && disk.Source != nil && disk.Source.File != nil {
			return disk, nil
		}
	}
	return nil, fmt.Errorf("domain %s has no disk vda", e.name)
}
