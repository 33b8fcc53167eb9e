package podman

import (
	"errors"
	"fmt"

	"github.com/nationtech/fleetctl/internal/wire"
)

var errUnknownState = errors.New("what it should be could not be fetched yet")

// plan decodes a desired state. What cannot be used is a fault of that one
// deployment, which is reported.
func (r *Runtime) plan(s wire.DesiredState) *deployment {
	d := &deployment{uid: s.UID, generation: s.Generation, wants: map[key]*want{}}
	if s.Score.Type != wire.ScorePodmanV0 {
		d.fault = fmt.Errorf("score type %q is not known to this agent, which knows %q", s.Score.Type, wire.ScorePodmanV0)
		return d
	}
	score, err := wire.DecodePodmanV0(s.Score.Data)
	if err != nil {
		d.fault = err
		return d
	}
	objects, tagKey, err := r.vault.open(&s)
	if err != nil {
		d.fault = err
		return d
	}
	for _, service := range score.Services {
		m, err := r.vault.of(s.Deployment, service, objects, tagKey)
		var w *want
		if err == nil {
			w, err = newWant(&s, service, m)
		}
		if err != nil {
			d.fault = fmt.Errorf("service %s: %w", service.Name, err)
			return d
		}
		registry, _ := splitRegistry(w.spec.Image)
		w.plainHTTP = r.insecure[registry]
		d.wants[w.key] = w
		d.order = append(d.order, w.key)
	}
	return d
}
