// Package fleetsim plays many devices against a real control plane: each has a
// connection and a credential of its own, fetches its signed manifest when it
// is hinted, and reports states. It measures what the control plane makes of
// them. There are no containers behind it.
package fleetsim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/wire"
)

// Label is on every object that a run makes, with the run's group as its value.
const Label = "fleetctl-bench"

const (
	enrolling   = 16 // at once
	connecting  = 64
	settleLimit = 2 * time.Minute
	cleanLimit  = 5 * time.Minute
)

// Config of a run. Everything is required that is not said to be optional.
type Config struct {
	Devices     int
	Deployments int             // every device is matched by Devices/Deployments of them, one at least
	Rate        int             // state writes a second, of all devices together
	Duration    time.Duration   // of the load
	Stop        <-chan struct{} // ends the load before that when it is closed; may be nil
	Seed        uint64          // what the devices report follows from it
	Namespace   string          // of the Deployments
	Rollout     bool            // after the load, also roll a change out over all devices
	Keep        bool            // leave devices and Deployments where they are

	Enrol  func(ctx context.Context, device string, r api.EnrolmentRequest) (api.Enrolment, error)
	Revoke func(ctx context.Context, device string) error
	Kube   client.Client
	// ServerUse gives what the control plane takes of this machine; zero when that
	// is unknown. May be nil.
	ServerUse func() Use
	Log       *slog.Logger
	// Progress hears what is done and how far it is; total is 0 when that is unknown. May be nil.
	Progress func(phase string, done, total int)
}

// What Progress hears while the devices report, and while a change is rolled out.
const (
	PhaseLoad    = "states written"
	PhaseRollout = "devices rolled out to"
)

// Use is what a process takes of its machine.
type Use struct {
	Resident int64         // bytes
	CPU      time.Duration // of all its processors, since it began
}

// Validate says which number makes no sense.
func (c *Config) Validate() error {
	switch {
	case c.Devices < 1 || c.Devices > 100_000:
		return fmt.Errorf("%d devices: between 1 and 100000 can be played", c.Devices)
	case c.Deployments < 1 || c.Deployments > c.Devices:
		return fmt.Errorf("%d deployments: between 1 and the number of devices, %d", c.Deployments, c.Devices)
	case c.Rate < 1:
		return fmt.Errorf("a rate of %d writes a second: at least 1", c.Rate)
	case c.Duration <= 0:
		return fmt.Errorf("a duration of %s: more than nothing", c.Duration)
	}
	return checkFileLimit(c.Devices)
}

// Result is what a run measured.
type Result struct {
	Devices         int
	Connections     int
	Deployments     int
	Load            time.Duration // that the writes took
	Writes          int64         // acknowledged by JetStream
	Errors          int64         // writes and fetches that failed
	FirstError      string
	AggregatesRight int
	Wrong           []string // Deployments whose status is not the sum of the reports; ten at most
	Hints           int      // from a change of a Deployment to the hint of a device that it matches
	HintsMissed     int
	HintP50         time.Duration
	HintP99         time.Duration
	WriteP99        time.Duration // from a write to its acknowledgement
	ServerRSS       int64         // the most that was seen, in bytes
	ServerCPU       time.Duration // during the load
	OwnCPU          time.Duration // what playing the devices took meanwhile
	Rollout         *Rollout      // nil without one
}

// Run plays a fleet and removes it again, also when ctx ends.
func Run(ctx context.Context, cfg Config) (_ Result, err error) {
	if err := cfg.Validate(); err != nil {
		return Result{}, err
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string, int, int) {}
	}
	if cfg.ServerUse == nil {
		cfg.ServerUse = func() Use { return Use{} }
	}
	f := newFleet(cfg)
	defer func() {
		if cfg.Keep {
			return
		}
		// What was made is removed, whatever ended the run.
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanLimit)
		defer cancel()
		err = errors.Join(err, f.remove(clean))
	}()
	for _, step := range []func(context.Context) error{f.connect, f.awaitDevices, f.deploy, f.load, f.settle, f.judge, f.roll} {
		if err := step(ctx); err != nil {
			return f.result, err
		}
	}
	return f.result, nil
}

// fleet is the state of one run.
type fleet struct {
	Config
	devices []*device
	groups  []*group
	acks    *histogram
	hints   *histogram
	rolling rolling
	result  Result
}

func newFleet(cfg Config) *fleet {
	f := &fleet{Config: cfg, acks: newHistogram(), hints: newHistogram()}
	f.result.Devices, f.result.Deployments = cfg.Devices, cfg.Deployments
	for i := range cfg.Deployments {
		f.groups = append(f.groups, &group{name: fmt.Sprintf("bench-%05d", i)})
	}
	for i := range cfg.Devices {
		g := f.groups[i%len(f.groups)]
		d := &device{
			id:    fmt.Sprintf(wire.PlayedDevices+"%06d", i),
			group: g,
			fleet: f,
			// The same seed gives the same reports, device by device.
			random: rand.New(rand.NewPCG(cfg.Seed, uint64(i))),
			work:   map[string]*job{},
			now:    func() time.Time { return time.Now().UTC() },
		}
		g.devices = append(g.devices, d)
		f.devices = append(f.devices, d)
	}
	return f
}

// each calls do for every device, so many at once, and counts them.
func (f *fleet) each(ctx context.Context, phase string, atOnce int, do func(context.Context, *device) error) error {
	return forEach(ctx, f.devices, atOnce, func(done int) { f.Progress(phase, done, len(f.devices)) }, do)
}

// forEach stops at the first error.
func forEach[T any](ctx context.Context, all []T, atOnce int, progress func(done int), do func(context.Context, T) error) error {
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.SetLimit(atOnce)
	var mu sync.Mutex
	done := 0
	for _, one := range all {
		tasks.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := do(ctx, one); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			done++
			progress(done)
			return nil
		})
	}
	return tasks.Wait()
}
