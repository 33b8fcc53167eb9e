package allinone

import (
	"context"

	"github.com/nationtech/fleetctl/internal/serverapi/registry"
	"github.com/nationtech/fleetctl/server/internal/supervise"
)

// startRegistry begins to follow the Devices, which say who may connect. An
// older server kept that in files.
func (s *server) startRegistry(ctx context.Context) (supervise.Part, error) {
	client, err := registry.NewClient(s.kube.RESTConfig())
	if err != nil {
		return nil, err
	}
	moved, err := registry.Migrate(ctx, client, s.path("registry"))
	if err != nil {
		return nil, err
	}
	if moved > 0 {
		s.Log.Info("the registry's files became Devices in the Kubernetes API", "devices", moved)
	}
	following, stop := context.WithCancel(context.Background())
	s.registry, err = registry.Open(following, client)
	if err == nil {
		err = s.registry.Synced(ctx)
	}
	if err != nil {
		stop()
		return nil, err
	}
	return supervise.Held(func(context.Context) error {
		stop()
		return nil
	}), nil
}
