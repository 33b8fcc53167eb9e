//go:build apiserver

package fleetsim_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/fleetsim"
	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
)

var (
	soakSeed    = flag.Uint64("soak.seed", 0, "seed of the faults; 0: one that is printed")
	soakRounds  = flag.Int("soak.rounds", 4, "rounds of faults")
	soakDevices = flag.Int("soak.devices", 40, "devices")
)

// soakLimit is how long the fleet may take to converge after the faults of a
// round: agents come back within half a minute of an outage.
const soakLimit = 90 * time.Second

// TestSoak: a fleet on a real control plane, in a process of its own that is
// killed, loses JetStream's disk, and whose connections are cut.
func TestSoak(t *testing.T) {
	seed := *soakSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("replay with: -soak.seed %d -soak.rounds %d -soak.devices %d", seed, *soakRounds, *soakDevices)
	s := newServer(t)
	p := newProxy(t, s.natsAddress())
	err := fleetsim.Soak(t.Context(), fleetsim.SoakConfig{
		Devices: *soakDevices, Deployments: max(1, *soakDevices/5), Rounds: *soakRounds, Seed: seed, Namespace: "default", Limit: soakLimit,
		Enrol: func(ctx context.Context, device string, r api.EnrolmentRequest) (api.Enrolment, error) {
			e, err := s.api().Enrol(ctx, device, r)
			e.NATSURLs = []string{"tls://" + p.address()}
			return e, err
		},
		Known: func(ctx context.Context, device string) (bool, error) {
			_, err := s.api().Device(ctx, device)
			if apiclient.Code(err) == api.CodeNotFound {
				return false, nil
			}
			return err == nil, err
		},
		Rotate: func(ctx context.Context) error { return s.rotate(ctx) },
		Kube:   s.kube(),
		Faults: []fleetsim.Fault{
			{Name: "the server is killed", Do: func(_ context.Context, r *rand.Rand) error {
				s.kill()
				time.Sleep(time.Duration(r.IntN(1000)) * time.Millisecond)
				return s.start()
			}},
			{Name: "the server is killed and JetStream's disk is lost", Do: func(context.Context, *rand.Rand) error {
				s.kill()
				if err := os.RemoveAll(filepath.Join(s.dir, "nats")); err != nil {
					return err
				}
				return s.start()
			}},
			{Name: "the server is killed while it starts", Do: func(_ context.Context, r *rand.Rand) error {
				s.kill()
				if err := s.launch(); err != nil {
					return err
				}
				time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
				s.kill()
				return s.start()
			}},
			{Name: "all connections are cut", Do: func(context.Context, *rand.Rand) error {
				p.cut()
				return nil
			}},
			{Name: "there is no network for a while", Do: func(_ context.Context, r *rand.Rand) error {
				p.block(true)
				p.cut()
				time.Sleep(time.Duration(r.IntN(5000)) * time.Millisecond)
				p.block(false)
				return nil
			}},
		},
		Logf: t.Logf,
	})
	if err != nil {
		t.Errorf("%v\nhint: %s\nserver log:\n%s", err, hint.Of(err), s.logTail())
	}
}

// rotate begins a rotation of the signing key, waits until the new key signs, or
// drops the old one: each time the next of these.
func (s *server) rotate(ctx context.Context) error {
	server := s.api()
	key, err := server.SigningKey(ctx)
	if err != nil {
		return err
	}
	switch key.Phase {
	case api.SigningIdle:
		_, err = server.RotateSigningKey(ctx)
	case api.SigningAnnounced:
		return fmt.Errorf("the new key does not sign yet; devices without it: %+v", key.Lacking)
	case api.SigningSwitched:
		_, err = server.FinishRotation(ctx, false)
	}
	if err == nil {
		s.Logf("the rotation was %s at revision %d", key.Phase, key.Revision)
	}
	return err
}
