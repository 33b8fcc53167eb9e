package vm

import (
	"fmt"
	"strings"
)

// Difference is one property in which a machine is not what was asked for.
type Difference struct {
	Property  string `json:"property"`
	Have      string `json:"have"`
	Want      string `json:"want"`
	Resizable bool   `json:"resizable"` // can be changed in place
}

// DifferentError says that a machine exists with another spec.
type DifferentError struct {
	Name        string
	Differences []Difference
}

func (e *DifferentError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "virtual machine %s exists and is different:", e.Name)
	for _, d := range e.Differences {
		fmt.Fprintf(&b, "\n  %-9s is %s, asked for %s", d.Property, d.Have, d.Want)
	}
	return b.String()
}

// Resizable says whether all differences can be changed in place.
func (e *DifferentError) Resizable() bool {
	for _, d := range e.Differences {
		if !d.Resizable {
			return false
		}
	}
	return true
}

// Compare lists how a machine differs from a spec whose defaults are filled.
func Compare(have VM, want Spec) []Difference {
	var all []Difference
	differs := func(property string, have, want any, resizable bool) {
		if have != want {
			all = append(all, Difference{property, fmt.Sprint(have), fmt.Sprint(want), resizable})
		}
	}
	differs("arch", have.Arch, want.Arch, false)
	differs("cpus", have.CPUs, want.CPUs, true)
	differs("memory", fmt.Sprint(have.MemoryMiB, " MiB"), fmt.Sprint(want.MemoryMiB, " MiB"), true)
	differs("disk", fmt.Sprint(have.DiskGiB, " GiB"), fmt.Sprint(want.DiskGiB, " GiB"), want.DiskGiB > have.DiskGiB)
	if have.ImageSHA != want.Image.SHA256 {
		differs("image", shortImage(have.Image, have.ImageSHA), shortImage(want.Image.Name, want.Image.SHA256), false)
	}
	differs("network", have.Network, want.Network, false)
	differs("firmware", have.Firmware, want.Firmware, false)
	differs("user", have.User, want.FirstBoot.User, false)
	if want.Accel != AccelAuto {
		differs("accel", have.Accel, want.Accel, false)
	}
	return all
}

func shortImage(name, sha string) string {
	return fmt.Sprintf("%s (sha256 %.12s)", name, sha)
}
