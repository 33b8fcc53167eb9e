package operator

import (
	"context"

	"github.com/nationtech/fleetctl/internal/broker/kv"
	"github.com/nationtech/fleetctl/internal/wire"
)

// Store is where desired state goes and reports come from; *kv.Store in
// production.
type Store interface {
	DesiredStore
	ReportStore
}

// DesiredStore is the bucket of what devices should run. A write names the
// revision that it follows, 0 for none, and fails with kv.ErrConflict when
// somebody else wrote the key since.
type DesiredStore interface {
	Keys(ctx context.Context) (map[string]uint64, error) // with their revisions
	Get(ctx context.Context, b wire.Bucket, key string) (kv.Value, error)
	PutManifest(ctx context.Context, device string, sealed []byte, after uint64) (revision uint64, err error)
	PutDesired(ctx context.Context, device, deployment string, data []byte, after uint64) (revision uint64, err error)
	// Delete leaves what was written after that revision.
	Delete(ctx context.Context, device, deployment string, revision uint64) error
}

// ReportStore is the buckets that devices write. A watch lasts until its ctx
// ends, and begins anew by itself after a fault.
type ReportStore interface {
	WatchStates(ctx context.Context, h kv.Handler[wire.DeviceState]) error
	WatchInfos(ctx context.Context, h kv.Handler[wire.DeviceInfo]) error
	WatchHeartbeats(ctx context.Context, h kv.Handler[wire.Heartbeat]) error
	// ForgetDevice removes every key of a device in every bucket.
	ForgetDevice(ctx context.Context, device string) error
}
