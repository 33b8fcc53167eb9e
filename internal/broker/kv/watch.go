package kv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleetctl/internal/wire"
)

// Update is one report of one device.
type Update[T any] struct {
	Device  string
	Value   T
	Deleted bool // the report is a marker of removal; Value is zero
	// Err says why the report could not be used, such as broken JSON or a
	// report about another device; Value is zero. What a device writes is
	// never trusted to be well formed.
	Err      error
	Revision uint64    // grows with every write of the bucket
	At       time.Time // when the broker stored it, by the broker's clock
}

// Handler receives what a watch finds. It is called from one goroutine, and
// the watch waits for it.
type Handler[T any] struct {
	Update func(Update[T])
	// Synced is called when every value that was there at the start of the
	// watch has been given to Update: once, and again after each time that
	// the watch had to begin anew. May be nil.
	Synced func()
}

// WatchStates gives every device's state and then every change, until ctx
// ends or the watch breaks. Several changes of one device in quick succession
// may arrive as the last one only.
func (s *Store) WatchStates(ctx context.Context, h Handler[wire.DeviceState]) error {
	return watch(ctx, s, wire.BucketState, h, func(v *wire.DeviceState) string { return v.Device })
}

// WatchInfos is WatchStates for what devices are.
func (s *Store) WatchInfos(ctx context.Context, h Handler[wire.DeviceInfo]) error {
	return watch(ctx, s, wire.BucketInfo, h, func(v *wire.DeviceInfo) string { return v.Device })
}

// WatchHeartbeats is WatchStates for heartbeats.
func (s *Store) WatchHeartbeats(ctx context.Context, h Handler[wire.Heartbeat]) error {
	return watch(ctx, s, wire.BucketHeartbeat, h, func(v *wire.Heartbeat) string { return v.Device })
}

// Retry waits of a watch that broke.
const (
	minRetry = 250 * time.Millisecond
	maxRetry = 15 * time.Second
)

// watch runs one watch after another until ctx ends.
func watch[T any](ctx context.Context, s *Store, b wire.Bucket, h Handler[T], device func(*T) string) error {
	wait := minRetry
	for {
		f, err := follow(ctx, s, b)
		if err == nil {
			err = f.run(ctx, func(m *nats.Msg, meta *nats.MsgMetadata) {
				if u, ok := decode(b, m, meta, device); ok {
					h.Update(u)
				}
			}, func() {
				wait = minRetry
				if h.Synced != nil {
					h.Synced()
				}
			})
		}
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("watch %s: %w", b, ctx.Err())
		case s.nc.IsClosed():
			return fmt.Errorf("watch %s: %w", b, errors.Join(nats.ErrConnectionClosed, err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
			wait = min(2*wait, maxRetry)
		}
	}
}

// decode gives ok = false for a key that belongs to no device.
func decode[T any](b wire.Bucket, m *nats.Msg, meta *nats.MsgMetadata, device func(*T) string) (u Update[T], ok bool) {
	u = Update[T]{Revision: meta.Sequence.Stream, At: meta.Timestamp}
	key, _ := b.Key(m.Subject)
	if u.Device, ok = wire.DeviceOfKey(b, key); !ok {
		return u, false
	}
	if m.Header.Get(operationHeader) != "" {
		u.Deleted = true
		return u, true
	}
	var v T
	if err := json.Unmarshal(m.Data, &v); err != nil {
		u.Err = fmt.Errorf("decode %s of %s: %w", b, u.Device, err)
		return u, true
	}
	if named := device(&v); named != u.Device {
		u.Err = fmt.Errorf("decode %s of %s: it names device %.80q", b, u.Device, named)
		return u, true
	}
	u.Value = v
	return u, true
}
