//go:build vm && cgo && libvirt_dlopen

package libvirt_test

import (
	"context"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/vm"
	"github.com/nationtech/fleetctl/vm/libvirt"
)

// BenchmarkTimeToSSH measures a new machine's way to its sshd, phase by phase.
// Each phase's figure is the time at which it was reached; firmware ends where
// kernel begins.
func BenchmarkTimeToSSH(b *testing.B) {
	for _, c := range []struct {
		name string
		arch vm.Arch
		fw   vm.Firmware
	}{
		{"x86_64-bios", vm.X86_64, vm.FirmwareBIOS},
		{"x86_64-uefi", vm.X86_64, vm.FirmwareUEFI},
		{"aarch64", vm.AArch64, vm.FirmwareUEFI},
	} {
		b.Run(c.name, func(b *testing.B) {
			h := open(b)
			image := builtImage(b, c.arch)
			sums := map[string]float64{}
			for b.Loop() {
				for phase, seconds := range startOnce(b, h, image, c.arch, c.fw) {
					sums[phase] += seconds
				}
			}
			b.ReportMetric(0, "ns/op") // says nothing here
			for phase, seconds := range sums {
				b.ReportMetric(seconds/float64(b.N), phase+"-s")
			}
		})
	}
}

// BenchmarkEmulatedProcessor starts the same image in turns on the processor
// that we choose and on QEMU's plain "max".
func BenchmarkEmulatedProcessor(b *testing.B) {
	h := open(b)
	image := builtImage(b, vm.AArch64)
	var ours, plain float64
	for b.Loop() {
		ours += startOnce(b, h, image, vm.AArch64, vm.FirmwareUEFI)[string(vm.PhaseSSH)]
		restore := libvirt.EmulatePlainly()
		plain += startOnce(b, h, image, vm.AArch64, vm.FirmwareUEFI)[string(vm.PhaseSSH)]
		restore()
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ours/float64(b.N), "ours-s")
	b.ReportMetric(plain/float64(b.N), "plain-s")
	b.ReportMetric(plain/ours, "times-as-long")
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
		reached[string(phase)] = since.Seconds()
	}}.Wait(ctx, s.Name, vm.WaitSSH)
	if deleted := h.Delete(ctx, s.Name); err == nil {
		err = deleted
	}
	if err != nil {
		b.Fatal(err)
	}
	return reached
}
