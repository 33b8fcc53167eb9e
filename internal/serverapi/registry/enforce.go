package registry

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"k8s.io/client-go/tools/cache"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

const (
	// farewell is how long a device that is being off-boarded stays connected
	// when no operator ends that sooner: it has to hear what to stop.
	farewell      = 4 * time.Second
	cutOffLimit   = 5 * time.Second
	cutOffsAtOnce = 64
)

// Links ends the connections of devices.
type Links interface {
	Disconnect(ctx context.Context, device string) error
}

// Enforce ends the connections of devices that may not connect any more, whoever
// took that from them and by what means, until ctx ends.
func (r *Registry) Enforce(ctx context.Context, links Links, log *slog.Logger) error {
	slots := make(chan struct{}, cutOffsAtOnce)
	cut := func(device string) {
		slots <- struct{}{}
		defer func() { <-slots }()
		if ctx.Err() != nil || !r.Denied(device) {
			return
		}
		limited, cancel := context.WithTimeout(ctx, cutOffLimit)
		defer cancel()
		if err := links.Disconnect(limited, device); err != nil {
			log.Warn("a device that may not connect is not disconnected", "op", "registry", "device", device, "err", err)
		}
	}
	moved := func(before, after *v1alpha1.Device) {
		switch {
		case before == nil || !before.MayConnect() && before.DeletionTimestamp == nil || after != nil && after.MayConnect():
		case after != nil && after.DeletionTimestamp != nil:
			time.AfterFunc(farewell, func() { cut(before.Name) })
		default:
			go cut(before.Name)
		}
	}
	handler, err := r.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		UpdateFunc: func(before, after any) { moved(deviceOf(before), deviceOf(after)) },
		DeleteFunc: func(last any) { moved(deviceOf(last), nil) },
	})
	if err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	context.AfterFunc(ctx, func() { _ = r.informer.RemoveEventHandler(handler) })
	return nil
}
