package parts

import (
	"context"
	"time"

	"github.com/nationtech/fleetctl/internal/serverapi/registry"
	"github.com/nationtech/fleetctl/server/internal/supervise"
)

// registrySettles is how long a change of a Device may take to be known in every
// process; a revoked device is out within 5 s.
const registrySettles = 2 * time.Second

// registry begins to follow the Devices, which say who may connect. A part that
// was cut off from the Kubernetes API goes on with what it knew last.
func (p *part) registry(ctx context.Context) (*registry.Registry, supervise.Part, error) {
	config, err := p.restConfig()
	if err != nil {
		return nil, nil, err
	}
	client, err := registry.NewClient(config)
	if err != nil {
		return nil, nil, err
	}
	following, stop := context.WithCancel(context.Background())
	r, err := registry.Open(following, client)
	if err == nil {
		err = r.Synced(ctx)
	}
	if err != nil {
		stop()
		return nil, nil, err
	}
	return r, supervise.Held(func(context.Context) error { stop(); return nil }), nil
}
