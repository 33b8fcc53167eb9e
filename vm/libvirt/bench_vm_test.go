//go:build vm && cgo && libvirt_dlopen

package libvirt_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/vm"
	"github.com/nationtech/fleetctl/vm/libvirt"
)

// BenchmarkTimeToSSH measures a new machine's way to its sshd, phase by phase.
// The last two use the same image one after the other: they show what our
// choice of an emulated processor is worth. Each phase's figure is the time at
// which it was reached; firmware ends where kernel begins.
func BenchmarkTimeToSSH(b *testing.B) {
	for _, c := range []struct {
		name  string
		arch  vm.Arch
		fw    vm.Firmware
		plain bool
	}{
		{"x86_64-bios", vm.X86_64, vm.FirmwareBIOS, false},
		{"x86_64-uefi", vm.X86_64, vm.FirmwareUEFI, false},
		{"aarch64", vm.AArch64, vm.FirmwareUEFI, false},
		{"aarch64-plain-max", vm.AArch64, vm.FirmwareUEFI, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			if c.plain {
				defer libvirt.EmulatePlainly()()
			}
			h := open(b)
			image := builtImage(b, c.arch)
			sums := map[string]float64{}
			for b.Loop() {
				for phase, seconds := range startOnce(b, h, image, c.arch, c.fw) {
					sums[phase] += seconds
				}
			}
			b.ReportMetric(0, "ns/op") // a hidden figure: what counts is below
			for phase, seconds := range sums {
				b.ReportMetric(seconds/float64(b.N), phase+"-s")
			}
		})
	}
}

// startOnce makes a machine, waits for its sshd, and takes it away.
func startOnce(b *testing.B, h *libvirt.Hypervisor, image vm.Image, arch vm.Arch, fw vm.Firmware) map[string]float64 {
	s, _ := spec(b, "bench", image, arch)
	s.Firmware, s.MemoryMiB = fw, vm.DefaultMemoryMiB
	ctx, cancel := context.WithTimeout(b.Context(), 20*time.Minute)
	defer cancel()
	reached := map[string]float64{}
	start := time.Now()
	if _, err := h.Create(ctx, s); err != nil {
		b.Fatal(err)
	}
	reached["create"] = time.Since(start).Seconds()
	_, err := vm.Waiter{Hypervisor: h, Console: h, Report: func(phase vm.Phase, since time.Duration) {
		reached[strings.ReplaceAll(string(phase), " ", "-")] = since.Seconds()
	}}.Wait(ctx, s.Name, vm.WaitSSH)
	if deleted := h.Delete(ctx, s.Name); err == nil {
		err = deleted
	}
	if err != nil {
		b.Fatal(err)
	}
	return reached
}
