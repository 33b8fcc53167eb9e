package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/nationtech/fleetctl/vm"
	"github.com/nationtech/fleetctl/vm/libvirt"
)

// atOnce is how many machines are worked on in parallel.
const atOnce = 8

func contains[T comparable](list []T, value T) bool { return slices.Contains(list, value) }

// eachVM does the same to several machines in parallel and reports all that
// failed. Names come from the arguments or, with all, from the hypervisor.
func eachVM(ctx context.Context, names []string, do func(ctx context.Context, name string) error) error {
	failures := make([]error, len(names))
	group := errgroup.Group{}
	group.SetLimit(atOnce)
	for i, name := range names {
		group.Go(func() error {
			failures[i] = do(ctx, name)
			return nil
		})
	}
	_ = group.Wait() // errors are in failures
	return errors.Join(failures...)
}

// namesOf resolves names and --all.
func namesOf(ctx context.Context, h *libvirt.Hypervisor, args []string, all bool) ([]string, error) {
	switch {
	case all && len(args) > 0:
		return nil, usageError(errors.New("--all and names exclude each other"), "name the machines, or use --all alone")
	case !all && len(args) == 0:
		return nil, usageError(errors.New("no machine is named"), "name one or more, or use --all")
	case !all:
		slices.Sort(args)
		args = slices.Compact(args)
		for _, name := range args {
			if err := vm.CheckName(name); err != nil {
				return nil, err
			}
		}
		return args, nil
	}
	machines, err := h.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the machines: %w", err)
	}
	names := make([]string, 0, len(machines))
	for _, m := range machines {
		names = append(names, m.Name)
	}
	return names, nil
}
