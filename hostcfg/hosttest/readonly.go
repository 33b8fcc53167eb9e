package hosttest

import (
	"context"
	"fmt"

	"github.com/nationtech/fleetctl/hostcfg"
)

// ReadOnly is the host with everything that could write refused: dry-run as a
// property of the host instead of an "if" at each call.
func ReadOnly(h hostcfg.Host) hostcfg.Host { return readOnly{h} }

type readOnly struct{ hostcfg.Host }

func (r readOnly) Run(ctx context.Context, c hostcfg.Command) (hostcfg.Result, error) {
	if !c.ReadOnly {
		return hostcfg.Result{}, fmt.Errorf("run on %s: refused, the host is read-only", r.Name())
	}
	return r.Host.Run(ctx, c)
}

func (r readOnly) Put(_ context.Context, u hostcfg.Upload) error {
	return fmt.Errorf("put %s on %s: refused, the host is read-only", u.Path, r.Name())
}
