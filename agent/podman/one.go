package podman

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/nationtech/fleetctl/internal/wire"
)

// one gives the container that t is about, where there can be only one.
func (r *Runtime) one(ctx context.Context, t wire.Target) (Summary, error) {
	list, err := r.targets(ctx, t)
	if err != nil {
		return Summary{}, err
	}
	if first := list[0].Labels[labelService]; list[len(list)-1].Labels[labelService] != first {
		var names []string
		for _, c := range list {
			names = append(names, c.Labels[labelService])
		}
		return Summary{}, &wire.ReplyError{Code: wire.ReplyBadRequest, Message: fmt.Sprintf(
			"deployment %s has several services (%s): say which", t.Deployment, strings.Join(slices.Compact(names), ", "))}
	}
	return list[0], nil
}
