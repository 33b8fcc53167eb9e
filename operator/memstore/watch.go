package memstore

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/nationtech/fleetctl/internal/broker/kv"
	"github.com/nationtech/fleetctl/internal/wire"
)

// WatchStates implements operator.ReportStore.
func (s *Store) WatchStates(ctx context.Context, h kv.Handler[wire.DeviceState]) error {
	return watch(ctx, s, wire.BucketState, h)
}

// WatchInfos implements operator.ReportStore.
func (s *Store) WatchInfos(ctx context.Context, h kv.Handler[wire.DeviceInfo]) error {
	return watch(ctx, s, wire.BucketInfo, h)
}

// WatchHeartbeats implements operator.ReportStore.
func (s *Store) WatchHeartbeats(ctx context.Context, h kv.Handler[wire.Heartbeat]) error {
	return watch(ctx, s, wire.BucketHeartbeat, h)
}

func watch[T any](ctx context.Context, s *Store, b wire.Bucket, h kv.Handler[T]) error {
	seen := map[string]uint64{}
	life := -1
	for {
		updates, changed, now := pending[T](s, b, seen)
		for _, u := range updates {
			h.Update(u)
		}
		if now != life && h.Synced != nil {
			h.Synced()
		}
		life = now
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("watch %s: %w", b, ctx.Err())
		}
	}
}

// pending gives what changed since seen, which it brings up to date.
func pending[T any](s *Store, b wire.Bucket, seen map[string]uint64) (updates []kv.Update[T], changed <-chan struct{}, life int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, v := range s.buckets[b] {
		device, ok := wire.DeviceOfKey(b, key)
		if !ok || seen[key] == v.Revision {
			continue
		}
		seen[key] = v.Revision
		u := kv.Update[T]{Device: device, Revision: v.Revision, At: v.At}
		u.Err = json.Unmarshal(v.Data, &u.Value)
		updates = append(updates, u)
	}
	for key := range seen {
		if _, there := s.buckets[b][key]; there {
			continue
		}
		delete(seen, key)
		device, _ := wire.DeviceOfKey(b, key)
		updates = append(updates, kv.Update[T]{Device: device, Deleted: true})
	}
	return updates, s.changed, s.life
}
