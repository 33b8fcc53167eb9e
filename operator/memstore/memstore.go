// Package memstore is the operator's store in memory, for tests. It keeps what
// the real one promises: a watch gives what is there, says so, then follows; a
// removed key leaves nothing behind; what it does not know is ErrNotFound.
package memstore

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nationtech/fleetctl/internal/broker/kv"
	"github.com/nationtech/fleetctl/internal/wire"
)

// Store is safe for concurrent use.
type Store struct {
	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at each change
	revision uint64
	life     int // grows when the buckets are wiped
	buckets  map[wire.Bucket]map[string]kv.Value
	writes   []string
	failing  error
}

// New gives an empty store.
func New() *Store {
	s := &Store{changed: make(chan struct{})}
	s.buckets = emptyBuckets()
	return s
}

func emptyBuckets() map[wire.Bucket]map[string]kv.Value {
	out := map[wire.Bucket]map[string]kv.Value{}
	for _, b := range wire.Buckets() {
		out[b] = map[string]kv.Value{}
	}
	return out
}

// Fail makes every write fail with err until it is called with nil.
func (s *Store) Fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing = err
}

// Wipe empties every bucket, as losing JetStream's directory does; watches
// begin anew.
func (s *Store) Wipe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buckets = emptyBuckets()
	s.life++
	s.wake()
}

// Writes lists the puts and removals in desired-state so far, such as
// "put pi-1.hello" and "del pi-1.hello".
func (s *Store) Writes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.writes)
}

// Snapshot gives the keys and values of desired-state.
func (s *Store) Snapshot() map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string][]byte{}
	for key, v := range s.buckets[wire.BucketDesired] {
		out[key] = v.Data
	}
	return out
}

// Put writes any key of any bucket, as a device does.
func (s *Store) Put(b wire.Bucket, key string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set(b, key, data)
	return nil
}

// Keys implements operator.DesiredStore.
func (s *Store) Keys(context.Context) (map[string]uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := map[string]uint64{}
	for key, v := range s.buckets[wire.BucketDesired] {
		keys[key] = v.Revision
	}
	return keys, nil
}

// Get implements operator.DesiredStore.
func (s *Store) Get(_ context.Context, b wire.Bucket, key string) (kv.Value, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.buckets[b][key]
	if !ok {
		return v, fmt.Errorf("get %s from %s: %w", key, b, kv.ErrNotFound)
	}
	return v, nil
}

// PutManifest implements operator.DesiredStore.
func (s *Store) PutManifest(_ context.Context, device string, sealed []byte, after uint64) (uint64, error) {
	return s.write(wire.ManifestKey(device), sealed, after)
}

// PutDesired implements operator.DesiredStore.
func (s *Store) PutDesired(_ context.Context, device, deployment string, data []byte, after uint64) (uint64, error) {
	return s.write(wire.DesiredKey(device, deployment), data, after)
}

// Delete implements operator.DesiredStore.
func (s *Store) Delete(_ context.Context, device, deployment string, revision uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failing != nil {
		return s.failing
	}
	key := wire.DesiredKey(device, deployment)
	if s.buckets[wire.BucketDesired][key].Revision <= revision {
		delete(s.buckets[wire.BucketDesired], key)
	}
	s.writes = append(s.writes, "del "+key)
	s.wake()
	return nil
}

// ForgetDevice implements operator.ReportStore.
func (s *Store) ForgetDevice(_ context.Context, device string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.buckets[wire.BucketDesired] {
		if key == device || strings.HasPrefix(key, device+".") {
			delete(s.buckets[wire.BucketDesired], key)
		}
	}
	delete(s.buckets[wire.BucketState], wire.StateKey(device))
	delete(s.buckets[wire.BucketInfo], wire.InfoKey(device))
	delete(s.buckets[wire.BucketHeartbeat], wire.HeartbeatKey(device))
	s.wake()
	return nil
}

func (s *Store) write(key string, data []byte, after uint64) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failing != nil {
		return 0, s.failing
	}
	if last := s.buckets[wire.BucketDesired][key].Revision; after != kv.Any && after != last {
		return 0, fmt.Errorf("put %s: %w", key, kv.ErrConflict)
	}
	s.set(wire.BucketDesired, key, data)
	s.writes = append(s.writes, "put "+key)
	return s.revision, nil
}

func (s *Store) set(b wire.Bucket, key string, data []byte) {
	s.revision++
	s.buckets[b][key] = kv.Value{Data: data, Revision: s.revision, At: time.Now()}
	s.wake()
}

func (s *Store) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}
