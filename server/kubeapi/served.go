package kubeapi

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
)

// AwaitServed waits until resources can be listed and watched without delay.
// For a moment after its start, or after a custom resource is established, the
// API's own cache of a resource is empty and watches are told to come back in a
// second (429, Retry-After); informers obey, and everything above them waits.
func (s *Server) AwaitServed(ctx context.Context, resources ...schema.GroupVersionResource) error {
	client, err := discovery.NewDiscoveryClientForConfig(s.rest)
	if err != nil {
		return fmt.Errorf("make a client for the Kubernetes API: %w", err)
	}
	const poll = 20 * time.Millisecond
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for _, r := range resources {
		for {
			// From the cache, as informers do; it is filled by being asked.
			err := client.RESTClient().Get().AbsPath("/apis", r.Group, r.Version, r.Resource).
				Param("resourceVersion", "0").Param("limit", "1").MaxRetries(0).Do(ctx).Error()
			if err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("wait until %s are served: %w, %w", r.Resource, err, context.Cause(ctx))
			case <-tick.C:
			}
		}
	}
	return nil
}
