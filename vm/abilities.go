package vm

import (
	"context"
	"time"
)

// Snapshot is a machine's past state that can be brought back: its disk, its
// firmware variables and, when it was running, its memory.
type Snapshot struct {
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	Running bool      `json:"running"` // it goes on running when restored
	DiskGiB int       `json:"diskGiB"`
}

// Snapshotter keeps snapshots. Each call leaves the machine running or stopped
// as it found it, Restore as the snapshot was.
type Snapshotter interface {
	CreateSnapshot(ctx context.Context, name, snapshot string) error
	Snapshots(ctx context.Context, name string) ([]Snapshot, error)
	RestoreSnapshot(ctx context.Context, name, snapshot string) error
	DeleteSnapshot(ctx context.Context, name, snapshot string) error
}

// Size is what can be changed of a machine in place; 0 leaves a property alone.
type Size struct {
	CPUs, MemoryMiB, DiskGiB int
}

// Resizer changes machines in place. A disk only grows.
type Resizer interface {
	// Resize reports whether a restart is needed before all of it holds.
	Resize(ctx context.Context, name string, size Size) (restart bool, err error)
}

// Prober says whether machines could be made, changing nothing.
type Prober interface {
	// CanEmulate reports whether there is an emulator.
	CanEmulate(ctx context.Context, arch Arch) error
	// HasFirmware reports whether there is UEFI firmware that can be used. Of a
	// hypervisor elsewhere that cannot be known.
	HasFirmware(ctx context.Context, arch Arch) error
	// CanKVM reports whether guests of an architecture really run on KVM.
	CanKVM(ctx context.Context, arch Arch) error
	// HasNetwork reports whether the network is there; started says if it runs.
	HasNetwork(ctx context.Context, name string) (started bool, err error)
}
