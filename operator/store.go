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

// DesiredStore is the bucket of what devices should run.
type DesiredStore interface {
	Keys(ctx context.Context) ([]string, error)
	Get(ctx context.Context, b wire.Bucket, key string) (kv.Value, error)
	PutManifest(ctx context.Context, device string, sealed []byte) error
	PutDesired(ctx context.Context, device, deployment string, data []byte) error
	Delete(ctx context.Context, device, deployment string) error
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
