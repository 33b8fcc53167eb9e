package agent

import (
	"context"
	"errors"
	"sync"

	"github.com/nationtech/fleetctl/internal/wire"
)

// NoEngine is for a device that runs no containers. It reports each deployment
// as failed, with the reason.
type NoEngine struct {
	Reason string

	mu     sync.Mutex
	states []wire.DeploymentState
}

// Set implements Engine.
func (n *NoEngine) Set(states []wire.DesiredState, keep []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.states = nil
	for _, s := range states {
		n.states = append(n.states, wire.DeploymentState{
			Name: s.Deployment, UID: s.UID, Generation: s.Generation, Phase: wire.PhaseFailed, Message: n.Reason,
		})
	}
	for _, name := range keep {
		n.states = append(n.states, wire.DeploymentState{Name: name, Phase: wire.PhaseFailed, Message: n.Reason})
	}
}

// States implements Engine.
func (n *NoEngine) States() []wire.DeploymentState {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]wire.DeploymentState{}, n.states...)
}

// Reconcile implements Engine.
func (n *NoEngine) Reconcile(context.Context) error { return nil }

// Changed implements Engine: nothing changes but by Set.
func (n *NoEngine) Changed() <-chan struct{} { return nil }

// Again implements Engine.
func (n *NoEngine) Again() <-chan struct{} { return nil }

// Version implements Engine.
func (n *NoEngine) Version(context.Context) (string, error) { return "", errors.New(n.Reason) }

// Wait implements Engine.
func (n *NoEngine) Wait() {}
