package fleetsim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// SoakConfig is a fleet that lives through faults.
type SoakConfig struct {
	Devices, Deployments int
	Rounds               int
	Seed                 uint64 // faults, edits and their order follow from it
	Namespace            string
	Limit                time.Duration // for all to converge after the faults of a round

	Enrol func(ctx context.Context, device string, r api.EnrolmentRequest) (api.Enrolment, error)
	// Known says whether the server still knows anything of a device.
	Known func(ctx context.Context, device string) (bool, error)
	// Rotate takes the rotation of the signing key as far as it goes now.
	Rotate func(ctx context.Context) error
	Kube   client.Client
	// Faults are what happens outside of the fleet: to the server, to the
	// network. Each returns when it is over.
	Faults []Fault
	Logf   func(format string, args ...any)
}

// Fault is something that goes wrong.
type Fault struct {
	Name string
	Do   func(ctx context.Context, random *rand.Rand) error
}

// soak is the state of a run. The edits of a round come from one goroutine.
type soak struct {
	SoakConfig
	*fleet
	random *rand.Rand
	agents []*agent
	gone   sync.Map // names of Deployments that were deleted
	edits  int
}

// Soak plays a fleet of agents that keep what they were told, as real ones do on
// disk, and has faults happen to it, round after round. After each round all has
// to converge within the limit. It fails at the first agent that starts or stops
// something without cause, at a status that is wrong, and at what is left
// behind. An error names the seed's round.
func Soak(ctx context.Context, cfg SoakConfig) error {
	f := newFleet(Config{Devices: cfg.Devices, Deployments: cfg.Deployments, Seed: cfg.Seed, Namespace: cfg.Namespace, Enrol: cfg.Enrol, Kube: cfg.Kube})
	s := &soak{SoakConfig: cfg, fleet: f, random: rand.New(rand.NewPCG(cfg.Seed, 0))}
	running, stop := context.WithCancel(ctx)
	defer func() {
		stop()
		for _, a := range s.agents {
			a.ended.Wait()
		}
	}()
	for _, d := range f.devices {
		a := newAgent(s, d)
		s.agents = append(s.agents, a)
		if err := a.enrol(ctx); err != nil {
			return err
		}
		a.start(running)
	}
	for _, g := range f.groups {
		if err := s.Kube.Create(ctx, f.deployment(g)); err != nil {
			return err
		}
	}
	if err := s.converge(ctx); err != nil {
		return fmt.Errorf("before the first fault: %w", err)
	}
	for round := range cfg.Rounds {
		if err := s.round(ctx, running, round); err != nil {
			return fmt.Errorf("round %d of seed %d: %w", round, cfg.Seed, err)
		}
	}
	return nil
}

// round lets one to three faults happen while Deployments are edited.
func (s *soak) round(ctx, running context.Context, round int) error {
	acts := slices.Concat(s.Faults, []Fault{
		{"an agent is killed", func(ctx context.Context, r *rand.Rand) error { return s.killAgents(ctx, running, r) }},
		{"clocks of devices jump", s.jumpClocks},
		{"a device is off-boarded and enrolled again", func(ctx context.Context, r *rand.Rand) error { return s.replace(ctx, running, r) }},
		{"a deployment is deleted and made again", s.recreate},
		{"the signing key's rotation goes on", s.rotate},
	})
	var chosen []Fault
	for range 1 + s.random.IntN(3) {
		chosen = append(chosen, acts[s.random.IntN(len(acts))])
	}
	edits := 1 + s.random.IntN(4)
	began := time.Now()
	for _, act := range chosen {
		for range edits {
			if err := s.edit(ctx); err != nil {
				return err
			}
		}
		s.Logf("round %d: %s", round, act.Name)
		if err := act.Do(ctx, s.random); err != nil {
			return fmt.Errorf("%s: %w", act.Name, err)
		}
	}
	hit := time.Since(began)
	if err := s.converge(ctx); err != nil {
		return err
	}
	s.Logf("round %d: converged %s after the last fault (%s with them)", round, (time.Since(began) - hit).Round(100*time.Millisecond), time.Since(began).Round(100*time.Millisecond))
	return nil
}

// edit changes the image of a Deployment.
func (s *soak) edit(ctx context.Context) error {
	g := s.groups[s.random.IntN(len(s.groups))]
	s.edits++
	patch := fmt.Appendf(nil, `{"spec":{"score":{"data":{"services":[{"name":"app","image":"registry.invalid/soak:v%d"}]}}}}`, s.edits)
	return s.persist(ctx, "edit "+g.name, func(ctx context.Context) error {
		return s.Kube.Patch(ctx, s.deployment(g), client.RawPatch("application/merge-patch+json", patch))
	})
}

func (s *soak) recreate(ctx context.Context, random *rand.Rand) error {
	g := s.groups[random.IntN(len(s.groups))]
	s.gone.Store(g.name, true)
	kube := s.Kube
	if err := s.persist(ctx, "delete "+g.name, func(ctx context.Context) error {
		return client.IgnoreNotFound(kube.Delete(ctx, s.deployment(g)))
	}); err != nil {
		return err
	}
	if err := s.persist(ctx, "wait for the end of "+g.name, func(ctx context.Context) error {
		err := kube.Get(ctx, client.ObjectKeyFromObject(s.deployment(g)), &v1alpha1.Deployment{})
		if err == nil {
			return errors.New("it is still there")
		}
		return client.IgnoreNotFound(err)
	}); err != nil {
		return err
	}
	if err := s.persist(ctx, "make "+g.name, func(ctx context.Context) error {
		return client.IgnoreAlreadyExists(kube.Create(ctx, s.deployment(g)))
	}); err != nil {
		return err
	}
	// An agent that was away may hear of the end only now: until it runs the
	// new one, the old one may go.
	return nil
}

// replace off-boards a device, wants that nothing is left of it, and enrols
// another machine under its id.
func (s *soak) replace(ctx, running context.Context, random *rand.Rand) error {
	a := s.agents[random.IntN(len(s.agents))]
	object := &v1alpha1.Device{}
	object.Name = a.id
	a.leave()
	if err := s.persist(ctx, "delete device "+a.id, func(ctx context.Context) error {
		return client.IgnoreNotFound(s.Kube.Delete(ctx, object))
	}); err != nil {
		return err
	}
	if err := s.persist(ctx, "nothing is left of device "+a.id, func(ctx context.Context) error {
		if a.up() {
			return errors.New("it is connected")
		}
		if known, err := s.Known(ctx, a.id); known || err != nil {
			return errors.Join(err, errors.New("the server knows something of it"))
		}
		return nil
	}); err != nil {
		return err
	}
	a.stop()
	a.wipe()
	if err := s.persist(ctx, "enrol device "+a.id, a.enrol); err != nil {
		return err
	}
	a.start(running)
	return nil
}

func (s *soak) rotate(ctx context.Context, _ *rand.Rand) error {
	return s.persist(ctx, "rotate the signing key", s.Rotate)
}

func (s *soak) killAgents(ctx, running context.Context, random *rand.Rand) error {
	for range 1 + random.IntN(max(1, len(s.agents)/4)) {
		a := s.agents[random.IntN(len(s.agents))]
		a.stop()
		if !sleepUntil(ctx, time.Now().Add(time.Duration(random.IntN(200))*time.Millisecond)) {
			return ctx.Err()
		}
		a.start(running)
	}
	return nil
}

func (s *soak) jumpClocks(_ context.Context, random *rand.Rand) error {
	for range 1 + random.IntN(len(s.agents)) {
		s.agents[random.IntN(len(s.agents))].jump(time.Duration(random.IntN(96)-48) * time.Hour)
	}
	return nil
}

// persist tries until it works: the server may be away.
func (s *soak) persist(ctx context.Context, what string, do func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, s.Limit)
	defer cancel()
	for {
		err := do(limited)
		if err == nil {
			return nil
		}
		if !sleepUntil(limited, time.Now().Add(200*time.Millisecond)) {
			return fmt.Errorf("%s: not within %s: %w", what, s.Limit, err)
		}
	}
}
