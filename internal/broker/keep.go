package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/nationtech/fleetctl/internal/wire"
)

// keepEvery bounds how long a bucket may be missing: the buckets are a cache,
// and whoever deletes one deletes nothing that cannot be made again.
const keepEvery = 5 * time.Second

// KeepBuckets looks every few seconds whether the buckets are there, and makes
// those that are not, until ctx ends. What belongs into them is the operator's
// and the agents' affair.
func KeepBuckets(ctx context.Context, js jetstream.JetStream, s Sizing, log *slog.Logger) {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		missing, err := missingBuckets(ctx, js)
		if err == nil && len(missing) > 0 {
			err = EnsureBuckets(ctx, js, s)
			if err == nil {
				log.Warn("buckets were gone and have been made again", "op", "keep buckets", "buckets", missing)
			}
		}
		if err != nil && ctx.Err() == nil {
			log.Warn("buckets may be missing", "op", "keep buckets", "err", err)
		}
	}
}

func missingBuckets(ctx context.Context, js jetstream.JetStream) (missing []wire.Bucket, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for _, b := range wire.Buckets() {
		_, err := js.Stream(ctx, b.Stream())
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			missing = append(missing, b)
		case err != nil:
			return nil, fmt.Errorf("look for bucket %s: %w", b, err)
		}
	}
	return missing, nil
}
