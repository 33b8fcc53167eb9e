package view

import (
	"slices"
	"testing"

	"github.com/nationtech/fleetctl/internal/dashboard/fleet"
	"github.com/nationtech/fleetctl/internal/wire"
)

// TestActions: what is offered makes sense for what runs there.
func TestActions(t *testing.T) {
	running := wire.ServiceState{Name: "web", Phase: wire.PhaseRunning}
	stopped := wire.ServiceState{Name: "db", Phase: wire.PhaseStopped, Message: wire.StoppedByHand}
	ended := wire.ServiceState{Name: "job", Phase: wire.PhaseStopped, Message: "exited with 0"}
	for _, tt := range []struct {
		what     string
		services []wire.ServiceState
		want     []string
	}{
		{"all run", []wire.ServiceState{running}, []string{"restart", "stop"}},
		{"none was stopped, one ran to its end", []wire.ServiceState{running, ended}, []string{"restart", "stop"}},
		{"all were stopped", []wire.ServiceState{stopped}, []string{"start"}},
		{"some were stopped", []wire.ServiceState{running, stopped}, []string{"start", "restart", "stop"}},
		{"none is made yet", nil, []string{"restart", "stop"}},
	} {
		w := Work{Name: "shop", Deployment: &fleet.Deployment{}, State: &wire.DeploymentState{Services: tt.services}}
		var got []string
		for _, a := range w.actions("pi-1") {
			got = append(got, a.name)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v", tt.what, got)
		}
	}
	for what, w := range map[string]Work{"not reported": {Deployment: &fleet.Deployment{}}, "not desired any more": {State: &wire.DeploymentState{}}} {
		if got := w.actions("pi-1"); got != nil {
			t.Errorf("%s: %v", what, got)
		}
	}
}
