// Package kvm finds out whether guests really run on this machine's KVM. A
// /dev/kvm that exists and opens proves nothing: nested and paravirtual hosts
// offer one on which real guests hang or crawl. It starts nothing that stays.
package kvm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// Probe runs a short program in a virtual machine and returns nil when it came
// to its end in time; else the reason, in one line for a person.
func Probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	err := probe(ctx)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("there is no /dev/kvm")
	case errors.Is(err, fs.ErrPermission):
		return errors.New("/dev/kvm may not be opened by this user (group kvm)")
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("/dev/kvm opens, but a guest's program of some milliseconds did not end within %s", deadline)
	}
	return err
}

// deadline is some hundred times what the program takes on real hardware.
const deadline = time.Second
