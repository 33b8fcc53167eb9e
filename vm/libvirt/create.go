//go:build cgo && libvirt_dlopen

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"time"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/nationtech/fleetctl/firmware"
	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/vm"
)

// Create implements vm.Hypervisor. The domain is defined before its volumes
// are made and marked ready after it started, so that a creation that was cut
// off at any point is seen by the next one, which starts over, and by Delete.
func (h *Hypervisor) Create(ctx context.Context, spec vm.Spec) (bool, error) {
	spec = spec.WithDefaults()
	if err := spec.Validate(); err != nil {
		return false, err
	}
	unlock, err := h.lock(ctx, spec.Name)
	if err != nil {
		return false, err
	}
	defer unlock()
	switch exists, err := h.adopt(ctx, spec); {
	case err != nil:
		return false, fmt.Errorf("virtual machine %s: %w", spec.Name, err)
	case exists:
		return false, nil
	}
	if err := h.build(ctx, spec); err != nil {
		// What was begun goes away even when ctx has ended.
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if undo := h.remove(cleanup, spec.Name); undo != nil && !errors.Is(undo, vm.ErrNotFound) {
			err = errors.Join(err, fmt.Errorf("take back what was made: %w", undo))
		}
		return false, fmt.Errorf("create virtual machine %s: %w", spec.Name, err)
	}
	return true, nil
}

// adopt says whether the machine is there already as it should be, and starts
// it. Left-overs of an interrupted creation are removed.
func (h *Hypervisor) adopt(ctx context.Context, spec vm.Spec) (bool, error) {
	have, err := h.Get(ctx, spec.Name)
	switch {
	case errors.Is(err, vm.ErrNotFound):
		if err := h.remove(ctx, spec.Name); err != nil && !errors.Is(err, vm.ErrNotFound) {
			return false, err
		}
		return false, nil
	case err != nil:
		return false, err
	case have.State == vm.Creating:
		h.Report("a creation of " + spec.Name + " was interrupted; starting over")
		return false, h.remove(ctx, spec.Name)
	}
	if differences := vm.Compare(have, spec); len(differences) > 0 {
		different := &vm.DifferentError{Name: spec.Name, Differences: differences}
		if different.Resizable() {
			return false, hint.Wrap(different, "change it in place: fleetctl vm resize "+spec.Name+", or make it anew: fleetctl vm delete "+spec.Name)
		}
		return false, hint.Wrap(different, "make it anew: fleetctl vm delete "+spec.Name+", or choose another name")
	}
	if have.State != vm.Running {
		return true, h.power(ctx, spec.Name, vm.PowerOn)
	}
	return true, nil
}

func (h *Hypervisor) build(ctx context.Context, spec vm.Spec) error {
	if err := h.ensureNetwork(ctx, spec.Network); err != nil {
		return err
	}
	in := domainInput{Spec: spec}
	var err error
	if in.Accel, err = h.accelerator(ctx, spec); err != nil {
		return err
	}
	if in.Emulator, err = h.emulator(spec.Arch, in.Accel); err != nil {
		return err
	}
	var shared []sharedFile
	if spec.Firmware == vm.FirmwareUEFI && !h.remote {
		if in.Firmware, shared, err = h.findFirmware(spec.Arch, in.Emulator.Machine); err != nil {
			return err
		}
	}
	seed, err := seedISO(spec)
	if err != nil {
		return err
	}
	meta := newMetadata(spec, in.Accel, time.Now())
	if in.Metadata, err = meta.encode(); err != nil {
		return err
	}
	domain, err := h.defineWithVolumes(ctx, in, volumes{seed, shared})
	if err != nil {
		return err
	}
	defer domain.Free()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := domain.Create(); err != nil {
		return fmt.Errorf("start: %w", plain(err))
	}
	meta.Phase = phaseReady
	return setMetadata(domain, meta)
}

// findFirmware returns the firmware with its paths as they will be once the
// shared files, which may be none, are in the pool.
func (h *Hypervisor) findFirmware(arch vm.Arch, machine string) (firmware.Image, []sharedFile, error) {
	query := firmware.Query{Arch: string(arch), Machine: machine}
	image, err := h.Firmware.Find(query)
	if err != nil {
		return image, nil, err
	}
	flash, err := image.Load(query)
	if err != nil {
		return image, nil, err
	}
	if flash.Code.Padded != nil {
		image.Code = inPool(firmwareVolume(flash.Code.SHA256))
	}
	if flash.Vars.Padded != nil {
		image.Vars = inPool(firmwareVolume(flash.Vars.SHA256))
	}
	return image, paddedFiles(flash), nil
}

// volumes is what a machine's volumes are filled with, besides the image.
type volumes struct {
	seed   []byte
	shared []sharedFile
}

// defineWithVolumes defines the domain and makes its volumes. The pool's lock
// is held throughout: the shared image has no user, and could be pruned, until
// the overlay on it exists. Padded firmware is used by the domain that names it.
func (h *Hypervisor) defineWithVolumes(ctx context.Context, in domainInput, with volumes) (*libvirt.Domain, error) {
	unlock, err := h.lock(ctx, poolLock)
	if err != nil {
		return nil, err
	}
	defer unlock()
	pool, err := h.ensurePool()
	if err != nil {
		return nil, err
	}
	defer pool.Free()
	name := in.Spec.Name
	in.Disk, in.Seed, in.Console, in.NVRAM = inPool(diskVolume(name)), inPool(seedVolume(name)), inPool(consoleVolume(name)), inPool(nvramVolume(name))
	text, err := domainXML(in)
	if err != nil {
		return nil, fmt.Errorf("encode domain: %w", err)
	}
	domain, err := h.conn.DomainDefineXMLFlags(text, libvirt.DOMAIN_DEFINE_VALIDATE)
	if err != nil {
		return nil, fmt.Errorf("define domain: %w", plain(err))
	}
	if err := h.createVolumes(ctx, pool, in.Spec, with); err != nil {
		return nil, errors.Join(err, domain.Free())
	}
	return domain, nil
}

func (h *Hypervisor) createVolumes(ctx context.Context, pool *libvirt.StoragePool, spec vm.Spec, with volumes) error {
	image, err := imageFile(spec.Image)
	if err != nil {
		return err
	}
	base, err := h.ensureShared(ctx, pool, image)
	if err != nil {
		return err
	}
	for _, file := range with.shared {
		if _, err := h.ensureShared(ctx, pool, file); err != nil {
			return err
		}
	}
	overlay := newVolume(diskVolume(spec.Name), "qcow2", uint64(spec.DiskGiB)*gib, "0600")
	overlay.BackingStore = &libvirtxml.StorageVolumeBackingStore{
		Path:   base,
		Format: &libvirtxml.StorageVolumeTargetFormat{Type: spec.Image.Format},
	}
	disk, _, err := createVolume(pool, overlay)
	if err != nil {
		return err
	}
	defer disk.Free()
	if _, err := h.createFilled(ctx, pool, seedVolume(spec.Name), "0600", with.seed); err != nil {
		return err
	}
	// Made here so that it is a volume, which can be read also from afar.
	console, _, err := createVolume(pool, newVolume(consoleVolume(spec.Name), "raw", 0, "0600"))
	if err != nil {
		return err
	}
	return console.Free()
}

func setMetadata(domain *libvirt.Domain, meta metadata) error {
	text, err := meta.encodeBare()
	if err != nil {
		return err
	}
	impact := libvirt.DOMAIN_AFFECT_CONFIG
	if active, err := domain.IsActive(); err != nil {
		return fmt.Errorf("look at domain: %w", plain(err))
	} else if active {
		impact |= libvirt.DOMAIN_AFFECT_LIVE
	}
	if err := domain.SetMetadata(libvirt.DOMAIN_METADATA_ELEMENT, text, prefix, namespace, impact); err != nil {
		return fmt.Errorf("write domain metadata: %w", plain(err))
	}
	return nil
}
