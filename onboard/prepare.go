package onboard

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/nationtech/fleetctl/hostcfg"
	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/machineid"
	"github.com/nationtech/fleetctl/internal/wire"
)

// Enroller is the control plane's part in making a device.
type Enroller interface {
	// Preview gives what the device needs and registers nothing.
	Preview(ctx context.Context, r Registration) (Enrolment, error)
	// Enrol registers the id for a machine, and gives the same as Preview.
	// Doing it again gives the same.
	Enrol(ctx context.Context, r Registration) (Enrolment, error)
}

// Registration is what the control plane keeps of a device.
type Registration struct {
	Device     string
	Machine    string // a name of package machineid
	SealingKey []byte // X25519 public key; none leaves the one it has
	Subject    string // user at the issuer that it signs in as; none leaves the one it has
}

// Wish is what a person asks for; everything else follows from the host and
// the control plane.
type Wish struct {
	DeviceID           string // "" is the host's name
	Labels             map[string]string
	NATSURLs           []string // instead of those that the control plane names
	InsecureRegistries []string
	MetricsListen      string // as deviceconfig has it
	HostEntries        []HostEntry
	AgentVersion       string
	// AgentBinary finds the agent for a GOARCH on this machine.
	AgentBinary func(goarch string) (string, error)
	// Rotate replaces the device's keys by new ones.
	Rotate bool
	// Identities is the issuer; nil where devices have pre-shared keys.
	Identities Identities
}

// Prepared is a host that has been looked at.
type Prepared struct {
	Device Device
	Plan   *hostcfg.Plan

	registration Registration
	preview      Enrolment // as the control plane gave it
}

// Prepare looks at the host and plans what has to change, in three round trips.
// It writes nothing, neither on the host nor at the control plane.
func Prepare(ctx context.Context, h hostcfg.Host, w Wish, e Enroller) (*Prepared, error) {
	facts, err := hostcfg.GatherFacts(ctx, h)
	if err != nil {
		return nil, err
	}
	if err := check(facts); err != nil {
		return nil, err
	}
	id, err := deviceID(w.DeviceID, facts.Hostname)
	if err != nil {
		return nil, err
	}
	d := Device{
		ID: id, Labels: w.Labels, InsecureRegistries: w.InsecureRegistries, MetricsListen: w.MetricsListen, HostEntries: w.HostEntries, AgentVersion: w.AgentVersion,
	}
	if d.AgentBinary, err = w.AgentBinary(facts.GoArch()); err != nil {
		return nil, err
	}
	machine, err := machineid.Name(facts.MachineID)
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("the host has no usable /etc/machine-id: %w", err), "make one on the host with: systemd-machine-id-setup")
	}
	keys, err := lookAtKeys(ctx, h)
	if err != nil {
		return nil, err
	}
	r := Registration{Device: id, Machine: machine, SealingKey: keys.SealingKey}
	preview, err := e.Preview(ctx, r)
	if err != nil {
		return nil, err
	}
	d.Enrolment = preview
	if w.Identities == nil {
		d.Enrolment.Issuer = Issuer{}
	}
	if d.keys, err = planKeys(ctx, keyWork{Wish: w, registration: r, enroller: e, registered: preview.Registered, have: keys}); err != nil {
		return nil, err
	}
	if len(w.NATSURLs) > 0 {
		d.Enrolment.NATSURLs = w.NATSURLs
	}
	resources, err := d.Resources()
	if err != nil {
		return nil, err
	}
	plan, err := hostcfg.MakePlan(ctx, h, resources)
	if err != nil {
		return nil, err
	}
	return &Prepared{Device: d, Plan: plan, registration: r, preview: preview}, nil
}

// Enrol registers the device, before its plan is applied. It fails when the
// control plane gives other keys or addresses than those in the plan.
func (p *Prepared) Enrol(ctx context.Context, e Enroller) error {
	if p.preview.Registered {
		return nil
	}
	got, err := e.Enrol(ctx, p.registration)
	if err != nil {
		return err
	}
	got.Registered = p.preview.Registered
	if !reflect.DeepEqual(got, p.preview) {
		return hint.New(fmt.Sprintf("the control plane gives device %s something else than when the plan was made", p.Device.ID),
			"run the command again, to see the plan as it is now")
	}
	return nil
}

// Restarts says whether the plan starts the agent anew, so that a heartbeat of
// the one before proves nothing.
func (p *Prepared) Restarts() bool {
	for _, st := range p.Plan.Steps {
		if st.Changed() && (st.ID == "unit:"+Unit || st.Kind == "reboot") {
			return true
		}
	}
	return false
}

// minMemory is what a device needs at the least: a Raspberry Pi Zero 2 has it.
const minMemory = 400 << 20

// check refuses a host that cannot become a device, with all reasons.
func check(f *hostcfg.Facts) error {
	var errs []error
	if !f.Systemd() {
		errs = append(errs, hint.New(fmt.Sprintf("the host runs %s, and a device needs systemd", orUnknown(f.Init)),
			"install a distribution with systemd, such as Debian or Raspberry Pi OS"))
	}
	if f.GoArch() == "" {
		errs = append(errs, hint.New(fmt.Sprintf("there is no agent for a %s processor", orUnknown(f.Machine)),
			"devices are amd64, arm64 or arm machines"))
	}
	if f.PackageManager == "" {
		errs = append(errs, hint.New(fmt.Sprintf("no known package manager on %s", orUnknown(f.OS.PrettyName)),
			"use Debian, Ubuntu, Raspberry Pi OS, Fedora, RHEL, Arch or openSUSE"))
	}
	if f.MemoryBytes > 0 && f.MemoryBytes < minMemory {
		errs = append(errs, fmt.Errorf("the host has %d MiB of memory, and a device needs %d", f.MemoryBytes>>20, minMemory>>20))
	}
	return errors.Join(errs...)
}

func orUnknown(s string) string {
	if s == "" {
		return "an unknown system"
	}
	return s
}

// deviceID is what was asked for, or the host's name if it can be an id.
func deviceID(asked, hostname string) (string, error) {
	if asked != "" {
		if err := wire.ValidateDeviceID(asked); err != nil {
			return "", hint.WithCode(hint.Wrap(err, "choose another id with --device-id"), hint.CodeUsage)
		}
		return asked, nil
	}
	if err := wire.ValidateDeviceID(hostname); err != nil {
		return "", hint.WithCode(hint.Wrap(fmt.Errorf("the host's name cannot be its device id: %w", err), "choose an id with --device-id"), hint.CodeUsage)
	}
	return hostname, nil
}
