package kv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/nationtech/fleetctl/internal/wire"
)

// Update is one report of one device.
type Update[T any] struct {
	Device  string
	Value   T
	Deleted bool // the key was removed; Value is zero
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
	// probeEvery is how often a quiet watch looks whether its bucket still
	// exists: one that was deleted under it would never say so.
	probeEvery = 30 * time.Second
)

var errWatchEnded = errors.New("the watch ended")

// watch runs one watch after another until ctx ends.
func watch[T any](ctx context.Context, s *Store, b wire.Bucket, h Handler[T], device func(*T) string) error {
	wait := minRetry
	for {
		synced, err := watchOnce(ctx, s, b, h, device)
		if ctx.Err() != nil {
			return fmt.Errorf("watch %s: %w", b, ctx.Err())
		}
		if synced {
			wait = minRetry
		}
		if s.nc.IsClosed() {
			return fmt.Errorf("watch %s: %w", b, errors.Join(nats.ErrConnectionClosed, err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
			wait = min(2*wait, maxRetry)
		}
	}
}

// watchOnce reports whether the watch got as far as being in sync.
func watchOnce[T any](ctx context.Context, s *Store, b wire.Bucket, h Handler[T], device func(*T) string) (synced bool, err error) {
	bucket, err := s.bucket(ctx, b)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	created := bucketCreated(ctx, s, b)
	watcher, err := bucket.WatchAll(ctx)
	if err != nil {
		return false, unavailable(fmt.Errorf("watch %s: %w", b, err))
	}
	defer func() { _ = watcher.Stop() }()

	probe := time.NewTicker(probeEvery)
	defer probe.Stop()
	for {
		select {
		case <-ctx.Done():
			return synced, ctx.Err()
		case <-probe.C:
			if now := bucketCreated(ctx, s, b); !now.IsZero() && !now.Equal(created) {
				return synced, errWatchEnded
			}
		case entry, ok := <-watcher.Updates():
			switch {
			case !ok:
				return synced, errWatchEnded
			case entry == nil: // everything that was there has been given
				synced = true
				if h.Synced != nil {
					h.Synced()
				}
			default:
				if u, ok := decode(b, entry, device); ok {
					h.Update(u)
				}
			}
		}
	}
}

// bucketCreated identifies one life of a bucket; zero when it cannot be told.
func bucketCreated(ctx context.Context, s *Store, b wire.Bucket) time.Time {
	stream, err := s.js.Stream(ctx, b.Stream())
	if err != nil {
		return time.Time{}
	}
	return stream.CachedInfo().Created
}

// decode gives ok = false for a key that belongs to no device.
func decode[T any](b wire.Bucket, entry jetstream.KeyValueEntry, device func(*T) string) (u Update[T], ok bool) {
	u = Update[T]{Revision: entry.Revision(), At: entry.Created()}
	if u.Device, ok = wire.DeviceOfKey(b, entry.Key()); !ok {
		return u, false
	}
	if entry.Operation() != jetstream.KeyValuePut {
		u.Deleted = true
		return u, true
	}
	var v T
	if err := json.Unmarshal(entry.Value(), &v); err != nil {
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

// parseValue reads the headers that a direct get adds (NATS ADR-31).
func parseValue(msg *nats.Msg) (Value, error) {
	revision, err := strconv.ParseUint(msg.Header.Get("Nats-Sequence"), 10, 64)
	if err != nil {
		return Value{}, fmt.Errorf("direct get answered without a sequence: %w", err)
	}
	at, err := time.Parse(time.RFC3339Nano, msg.Header.Get("Nats-Time-Stamp"))
	if err != nil {
		return Value{}, fmt.Errorf("direct get answered without a time: %w", err)
	}
	return Value{Data: msg.Data, Revision: revision, At: at}, nil
}
