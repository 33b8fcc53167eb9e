package podman

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/nationtech/fleetctl/internal/wire"
)

// compareWith gives what containers of the service are compared with.
func (r *Runtime) compareWith(ctx context.Context, w *worker, target *want, have []Container) (reality, error) {
	if target == nil || target.stopped || len(have) == 0 {
		return reality{}, nil
	}
	res, known, err := r.resolved(ctx, target, have)
	if err == nil && !known && target.pull == wire.PullAlways {
		if _, err = r.ensureImage(ctx, w, target); err == nil {
			res, known, err = r.resolved(ctx, target, have)
		}
	}
	if err != nil || !known {
		return reality{}, err
	}
	image, err := r.config(ctx, res.ID)
	return reality{resolution: &res, image: image, accepted: r.images.Accepted}, err
}

// config is what an image says of its containers; nil when it is not on the
// device. It never changes, so it is asked for once.
func (r *Runtime) config(ctx context.Context, id string) (*Image, error) {
	r.mu.Lock()
	cached := r.configs[id]
	r.mu.Unlock()
	if cached != nil {
		return cached, nil
	}
	image, found, err := r.client.InspectImage(ctx, id)
	if err != nil || !found {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.configs[id] = &image
	return &image, nil
}

// accept takes for good in what a container differs that was just made. Making
// it again would end the same, again and again.
func (r *Runtime) accept(w *worker, act action) error {
	if slices.Contains(act.why, "image") {
		return fmt.Errorf("container %s was made, and its image is not what was asked for", short(act.container.ID))
	}
	r.log.Warn("this Podman gives a container back otherwise than it was asked for", "deployment", w.key.deployment,
		"service", w.key.service, "container", short(act.container.ID), "differs_in", strings.Join(act.why, ", "))
	return r.images.Accept(act.container.ID, act.why)
}
