package vm

import (
	"context"
	"errors"
	"io"
	"time"
)

// State is what a machine is doing.
type State string

const (
	Creating State = "creating" // its creation was begun and not finished
	Running  State = "running"
	Stopped  State = "stopped"
	Paused   State = "paused"
	Crashed  State = "crashed"
)

// VM is a machine as the hypervisor reports it.
type VM struct {
	Name      string    `json:"name"`
	State     State     `json:"state"`
	Arch      Arch      `json:"arch"`
	CPUs      int       `json:"cpus"`
	MemoryMiB int       `json:"memoryMiB"`
	DiskGiB   int       `json:"diskGiB"`
	Image     string    `json:"image"`
	ImageSHA  string    `json:"imageSHA256,omitempty"`
	Network   string    `json:"network"`
	MAC       string    `json:"mac"`
	Address   string    `json:"address,omitempty"` // IPv4, once it has a lease
	Accel     Accel     `json:"accel"`
	Firmware  Firmware  `json:"firmware"`
	User      string    `json:"user"`
	HostKey   string    `json:"hostKey,omitempty"` // line of known_hosts without the host
	Created   time.Time `json:"created"`
}

// ErrNotFound says that there is no such machine.
var ErrNotFound = errors.New("no such virtual machine")

// Hypervisor makes machines and takes them away. It sees only machines that
// fleetctl made.
type Hypervisor interface {
	// Create makes and starts a machine. It is idempotent: a creation that was
	// interrupted is finished, an existing machine of the same spec is started
	// if need be, and one of another spec gives a *DifferentError.
	Create(ctx context.Context, spec Spec) (created bool, err error)
	// Get reports a machine; ErrNotFound when there is none.
	Get(ctx context.Context, name string) (VM, error)
	// List reports all machines, by name.
	List(ctx context.Context) ([]VM, error)
	// Power changes whether a machine runs. Asking for what is so is no error.
	Power(ctx context.Context, name string, action PowerAction) error
	// Delete takes away a machine and everything that belongs to it. Left-overs
	// of an interrupted creation go too. ErrNotFound when there was nothing.
	Delete(ctx context.Context, name string) error
}

// PowerAction is what Hypervisor.Power does.
type PowerAction string

const (
	PowerOn    PowerAction = "start"
	PowerOff   PowerAction = "stop"        // asks the guest to shut down and waits
	PowerCut   PowerAction = "force-stop"  // pulls the plug
	PowerCycle PowerAction = "power-cycle" // pulls the plug and puts it back
	Restart    PowerAction = "restart"     // asks the guest to shut down, then starts it
)

// ConsoleReader reads what a guest's serial console said since its last start.
type ConsoleReader interface {
	// ConsoleLog returns up to the last limit bytes.
	ConsoleLog(ctx context.Context, name string, limit int64) ([]byte, error)
}

// Console attaches to a guest's serial console.
type Console interface {
	OpenConsole(ctx context.Context, name string) (io.ReadWriteCloser, error)
}
