//go:build apiserver

package fleetsim_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/fleetsim"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// TestRun plays a small fleet on a real control plane, a rollout included, and
// leaves nothing of it there. A rotation of the signing key begins meanwhile.
func TestRun(t *testing.T) {
	s := newServer(t)
	kube := s.kube()
	server := s.api()
	rotated, lacking := false, -1
	result, err := fleetsim.Run(t.Context(), fleetsim.Config{
		Devices: 20, Deployments: 4, Rate: 100, Duration: 2 * time.Second, Seed: 1, Namespace: "default", Rollout: true,
		Enrol: server.Enrol,
		Revoke: func(ctx context.Context, device string) error {
			_, err := server.Revoke(ctx, device)
			return err
		},
		Kube: kube, ServerUse: func() fleetsim.Use { return fleetsim.Use{Resident: 1} }, Log: slog.New(slog.DiscardHandler),
		Progress: func(phase string, _, _ int) {
			switch {
			case phase == fleetsim.PhaseLoad && !rotated:
				rotated = true
				if _, err := server.RotateSigningKey(t.Context()); err != nil {
					t.Error(err)
				}
			case phase == fleetsim.PhaseRollout:
				key, err := server.SigningKey(t.Context())
				if err != nil {
					t.Error(err)
				}
				lacking = len(key.Lacking)
			}
		},
	})
	if err != nil {
		t.Fatalf("%v\nserver log:\n%s", err, s.logTail())
	}
	if result.Errors > 0 || result.AggregatesRight != 4 {
		t.Errorf("errors, or wrong sums: %+v", result)
	}
	// A tenth of 20 is 2: ten batches, as the devices saw them.
	got := result.Rollout
	if got == nil || got.Batches != 10 || got.MaxUnavailable != 2 || got.MostUnavailable < 1 || got.MostUnavailable > 2 || got.Took <= 0 {
		t.Errorf("the rollout: %+v", got)
	}
	if lacking != 0 {
		t.Errorf("%d devices did not follow the signing key's rotation", lacking)
	}
	left := func() int {
		devices, deployments := &v1alpha1.DeviceList{}, &v1alpha1.DeploymentList{}
		for _, list := range []client.ObjectList{devices, deployments} {
			if err := kube.List(t.Context(), list, client.HasLabels{fleetsim.Label}); err != nil {
				t.Fatal(err)
			}
		}
		return len(devices.Items) + len(deployments.Items)
	}
	for deadline := time.Now().Add(30 * time.Second); left() > 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d objects are left behind", left())
		}
	}
}
