// Package rotation leads a fleet from one signing key to the next: it knows
// which devices trust which key, signs with the new one once those that are
// connected do, and drops the old one only when told to. The keys themselves,
// and what is announced of them, are internal/signing's.
package rotation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/nationtech/fleetctl/internal/signing"
	"github.com/nationtech/fleetctl/internal/wire"
)

const (
	lookEvery = time.Second
	// Steady is how long all connected devices have to have the successor
	// before it signs: after a restart of the server devices come back within
	// this time.
	Steady = 30 * time.Second
)

// Device is what is known of a device that may connect.
type Device struct {
	ID        string
	Keys      []string // wire.KeyIDs of what it trusts; nil: its agent does not say
	Connected bool
}

// Fleet lists the devices that may connect.
type Fleet interface{ Devices() []Device }

// Rotation of a fleet's signing key. It is safe for concurrent use.
type Rotation struct {
	signer *signing.Signer
	fleet  Fleet
	steady time.Duration
	now    func() time.Time
	log    *slog.Logger
}

// Config of a Rotation; Steady and Now are for tests.
type Config struct {
	Signer *signing.Signer
	Fleet  Fleet
	Log    *slog.Logger
	Steady time.Duration // default: Steady
	Now    func() time.Time
}

// New gives a rotation; Run makes it go on by itself.
func New(c Config) *Rotation {
	r := &Rotation{signer: c.Signer, fleet: c.Fleet, log: c.Log, steady: c.Steady, now: c.Now}
	if r.steady == 0 {
		r.steady = Steady
	}
	if r.now == nil {
		r.now = time.Now
	}
	return r
}

// Status is how far a rotation is. Outside of one, Target is the current key.
type Status struct {
	signing.Rotation
	Target  string   // the key that devices should have
	Devices []Device // by id
	Lacking []Device // those without Target, by id
}

// Have says how many devices trust a key.
func (s *Status) Have(key string) int {
	n := 0
	for _, d := range s.Devices {
		if slices.Contains(d.Keys, key) {
			n++
		}
	}
	return n
}

// Status looks at the fleet.
func (r *Rotation) Status() Status {
	s := Status{Rotation: r.signer.Rotation(), Devices: r.fleet.Devices()}
	s.Target = s.Current
	if s.Phase != signing.Idle {
		s.Target = s.Successor
	}
	slices.SortFunc(s.Devices, func(a, b Device) int { return strings.Compare(a.ID, b.ID) })
	for _, d := range s.Devices {
		if !slices.Contains(d.Keys, s.Target) {
			s.Lacking = append(s.Lacking, d)
		}
	}
	return s
}

// LackingError says that the old key cannot go yet.
type LackingError struct{ Devices []Device }

func (e *LackingError) Error() string {
	const most = 20
	var names []string
	for _, d := range e.Devices[:min(most, len(e.Devices))] {
		names = append(names, d.ID)
	}
	if more := len(e.Devices) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return fmt.Sprintf("the old key stays: %d devices do not have the new one yet: %s", len(e.Devices), strings.Join(names, ", "))
}

// Pinned are the keys that a device is enrolled with.
func (r *Rotation) Pinned() wire.PinnedKeys { return r.signer.Pinned() }

// Begin makes a successor and announces it.
func (r *Rotation) Begin(ctx context.Context) error {
	if err := r.signer.Begin(ctx, r.now()); err != nil {
		return err
	}
	r.tell("rotation of the signing key begins")
	return nil
}

// Finish drops the old key. While devices lack the new one it is a
// LackingError, unless forced.
func (r *Rotation) Finish(ctx context.Context, force bool) error {
	s := r.Status()
	if s.Phase == signing.Idle {
		return signing.ErrNotUnderWay
	}
	if len(s.Lacking) > 0 {
		lacking := &LackingError{s.Lacking}
		if !force {
			return lacking
		}
		r.log.Warn("the old signing key is dropped by force", "op", "rotate signing key", "lacking", lacking.Error())
	}
	if err := r.signer.Finish(ctx); err != nil {
		return err
	}
	r.tell("rotation of the signing key is finished")
	return nil
}

// Cancel goes back to the old key.
func (r *Rotation) Cancel(ctx context.Context) error {
	if err := r.signer.Cancel(ctx); err != nil {
		return err
	}
	r.tell("rotation of the signing key is called off")
	return nil
}

// Run signs with the successor once every connected device has had it for a
// while, until ctx ends.
func (r *Rotation) Run(ctx context.Context) error {
	tick := time.NewTicker(min(lookEvery, r.steady))
	defer tick.Stop()
	var since time.Time // all connected devices have it; zero: they do not
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		switch {
		case !r.due():
			since = time.Time{}
		case since.IsZero():
			since = r.now()
		case r.now().Sub(since) >= r.steady:
			since = time.Time{}
			err := r.signer.Switch(ctx)
			if err == nil {
				r.tell("the new signing key signs")
			} else if !errors.Is(err, signing.ErrNotUnderWay) && ctx.Err() == nil {
				r.log.Error("the new signing key cannot sign yet", "op", "rotate signing key", "error", err)
			}
		}
	}
}

// due says whether all connected devices have the successor, and somebody has,
// if there is anybody.
func (r *Rotation) due() bool {
	if r.signer.Rotation().Phase != signing.Announced {
		return false
	}
	s := r.Status()
	return (len(s.Devices) == 0 || s.Have(s.Target) > 0) &&
		!slices.ContainsFunc(s.Lacking, func(d Device) bool { return d.Connected })
}

func (r *Rotation) tell(what string) {
	s := r.signer.Rotation()
	r.log.Info(what, "op", "rotate signing key", "current", s.Current, "successor", s.Successor, "signs", s.Signs, "revision", s.Revision)
}
