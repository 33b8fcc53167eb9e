//go:build !amd64

package kvm

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const ioCreateVM = 0xAE01

// probe makes a machine. No program is run in it: of this architecture no
// hosts are known whose KVM makes machines that do not run.
func probe(context.Context) error {
	device, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer device.Close()
	machine, _, errno := unix.Syscall(unix.SYS_IOCTL, device.Fd(), ioCreateVM, 0)
	if errno != 0 {
		return fmt.Errorf("KVM makes no machine: %w", errno)
	}
	return unix.Close(int(machine))
}
