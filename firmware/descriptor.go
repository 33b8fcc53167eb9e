// Package firmware finds the UEFI firmware that QEMU starts a guest with:
// through the descriptors that distributions ship for QEMU, then at known
// paths. It also pads images to the size that a machine insists on. Making a
// guest's own variable store from the template is vm/libvirt's affair.
package firmware

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
)

// descriptor is QEMU's docs/interop/firmware.json, as far as we need it.
type descriptor struct {
	Description    string   `json:"description"`
	InterfaceTypes []string `json:"interface-types"`
	Mapping        struct {
		Device     string `json:"device"`
		Mode       string `json:"mode"`
		Executable file   `json:"executable"`
		Template   file   `json:"nvram-template"`
	} `json:"mapping"`
	Targets []struct {
		Architecture string   `json:"architecture"`
		Machines     []string `json:"machines"`
	} `json:"targets"`
	Features []string `json:"features"`
}

type file struct {
	Filename string `json:"filename"`
	Format   string `json:"format"`
}

// descriptors reads all descriptors in QEMU's order: by file name, where a
// name in a directory further up hides the same name below, and an empty file
// hides it altogether. A broken one is passed over with its error kept.
func (f Finder) descriptors() (found []descriptor, broken []error) {
	winners := map[string]string{}
	for _, dir := range f.Dirs {
		names, err := filepath.Glob(filepath.Join(dir, "*.json"))
		if err != nil {
			broken = append(broken, fmt.Errorf("list %s: %w", dir, err))
		}
		for _, name := range names {
			if _, hidden := winners[filepath.Base(name)]; !hidden {
				winners[filepath.Base(name)] = name
			}
		}
	}
	order := make([]string, 0, len(winners))
	for base := range winners {
		order = append(order, base)
	}
	sort.Strings(order)
	for _, base := range order {
		data, err := os.ReadFile(winners[base])
		if err != nil {
			broken = append(broken, fmt.Errorf("read firmware descriptor: %w", err))
			continue
		}
		if len(data) == 0 {
			continue
		}
		var d descriptor
		if err := json.Unmarshal(data, &d); err != nil {
			broken = append(broken, fmt.Errorf("decode firmware descriptor %s: %w", winners[base], err))
			continue
		}
		found = append(found, d)
	}
	return found, broken
}

// suits says whether the firmware starts such a machine, in two raw flash
// images of which the second is a template for the guest's variables.
func (d descriptor) suits(q Query) bool {
	if !slices.Contains(d.InterfaceTypes, "uefi") || d.Mapping.Device != "flash" {
		return false
	}
	if d.Mapping.Mode != "" && d.Mapping.Mode != "split" {
		return false
	}
	if d.Mapping.Executable.Format != "raw" || d.Mapping.Template.Format != "raw" {
		return false
	}
	if slices.Contains(d.Features, "secure-boot") != q.SecureBoot {
		return false
	}
	// SMM costs time under emulation, and only secure boot has a use for it.
	if slices.Contains(d.Features, "requires-smm") && !q.SecureBoot {
		return false
	}
	for _, target := range d.Targets {
		if target.Architecture != q.Arch {
			continue
		}
		for _, pattern := range target.Machines {
			if ok, err := path.Match(pattern, q.Machine); err == nil && ok {
				return true
			}
		}
	}
	return false
}
