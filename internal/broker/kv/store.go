// Package kv is how the control plane reads and writes the buckets: desired
// state out, reports in. It owns keys, sizes and the handling of markers; what
// a value means is internal/wire's, and when to write which is the operator's.
//
// To take a deployment off a device write the manifest without it first, then
// Delete its key: in between, an agent sees a key that nothing points to, and
// never a manifest that points to nothing.
package kv

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/wire"
)

// ErrNotFound says that a key has no value.
var ErrNotFound = errors.New("no such key")

// ErrTooLarge says that a value does not fit its bucket.
var ErrTooLarge = errors.New("too large")

// ErrConflict says that a key has another revision than the writer knows of:
// somebody else wrote it, or it was wiped.
var ErrConflict = errors.New("somebody else wrote it")

// Any stands for whatever revision a key has, or none.
const Any = ^uint64(0)

// Store reads and writes the fleet's buckets. It is safe for concurrent use.
type Store struct {
	nc *nats.Conn
	js jetstream.JetStream
}

// Open gives the store behind a connection, which has to be in the account
// that owns the buckets. The connection stays the caller's.
func Open(nc *nats.Conn) (*Store, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("open key-value store: %w", err)
	}
	return &Store{nc: nc, js: js}, nil
}

// Value is what a key holds.
type Value struct {
	Data     []byte
	Revision uint64    // the stream's sequence; grows with every write of the bucket
	At       time.Time // by the broker's clock
}

// PutManifest writes a device's manifest, a sealed wire.Manifest, over the one
// of revision after (0: over none), and gives the revision that it has now.
// ErrConflict: the key is not as it was after that revision. The broker hints
// the device.
func (s *Store) PutManifest(ctx context.Context, device string, sealed []byte, after uint64) (revision uint64, err error) {
	if err := wire.ValidateDeviceID(device); err != nil {
		return 0, err
	}
	return s.put(ctx, wire.BucketDesired, wire.ManifestKey(device), sealed, after)
}

// PutDesired writes one deployment of a device, a wire.DesiredState, as
// PutManifest does. It causes no hint: write the manifest afterwards.
func (s *Store) PutDesired(ctx context.Context, device, deployment string, data []byte, after uint64) (revision uint64, err error) {
	key, err := desiredKey(device, deployment)
	if err != nil {
		return 0, err
	}
	return s.put(ctx, wire.BucketDesired, key, data, after)
}

// Delete forgets one deployment of a device, up to that revision: what somebody
// else wrote since then stays. Nothing of the key remains, also no marker;
// forgetting what is not there is no error.
func (s *Store) Delete(ctx context.Context, device, deployment string, revision uint64) error {
	key, err := desiredKey(device, deployment)
	if err != nil {
		return err
	}
	return s.purge(ctx, wire.BucketDesired, key, revision)
}

// DeleteManifest forgets a device's manifest. An agent that finds no manifest
// keeps what it runs: to empty a device write an empty manifest.
func (s *Store) DeleteManifest(ctx context.Context, device string) error {
	if err := wire.ValidateDeviceID(device); err != nil {
		return err
	}
	return s.purge(ctx, wire.BucketDesired, wire.ManifestKey(device), Any)
}

// ForgetDevice removes everything about a device that is gone for good: its
// reports, its manifest and its deployments.
func (s *Store) ForgetDevice(ctx context.Context, device string) error {
	if err := wire.ValidateDeviceID(device); err != nil {
		return err
	}
	var all errgroup.Group
	for _, key := range []struct {
		bucket wire.Bucket
		key    string
	}{
		{wire.BucketDesired, wire.DesiredKey(device, "*")},
		{wire.BucketDesired, wire.ManifestKey(device)},
		{wire.BucketState, wire.StateKey(device)},
		{wire.BucketInfo, wire.InfoKey(device)},
		{wire.BucketHeartbeat, wire.HeartbeatKey(device)},
	} {
		all.Go(func() error { return s.purge(ctx, key.bucket, key.key, Any) })
	}
	return all.Wait()
}

// Get reads a key; ErrNotFound when it has no value.
func (s *Store) Get(ctx context.Context, b wire.Bucket, key string) (Value, error) {
	// By subject (NATS ADR-31): the answer is the stored message itself.
	msg, err := s.request(ctx, b.DirectGetSubject(key))
	if err != nil {
		return Value{}, unavailable(fmt.Errorf("get %s from %s: %w", key, b, err))
	}
	value, stored, err := parseValue(msg)
	switch status := msg.Header.Get(statusHeader); {
	case err != nil:
		return Value{}, fmt.Errorf("get %s from %s: %w", key, b, err)
	case stored && msg.Header.Get(operationHeader) == "":
		return value, nil
	case stored, status == "404":
		return Value{}, fmt.Errorf("get %s from %s: %w", key, b, ErrNotFound)
	case status == "503":
		return Value{}, unavailable(fmt.Errorf("get %s from %s: %w", key, b, nats.ErrNoResponders))
	default:
		return Value{}, fmt.Errorf("get %s from %s: %s %s", key, b, status, msg.Header.Get("Description"))
	}
}

// Keys lists the keys of desired-state, manifests (a device id) and deployments
// (wire.ParseDesiredKey), each with its revision.
func (s *Store) Keys(ctx context.Context) (map[string]uint64, error) {
	bucket, err := s.bucket(ctx, wire.BucketDesired)
	if err != nil {
		return nil, err
	}
	watcher, err := bucket.WatchAll(ctx, jetstream.MetaOnly(), jetstream.IgnoreDeletes())
	if err != nil {
		return nil, unavailable(fmt.Errorf("list keys of %s: %w", wire.BucketDesired, err))
	}
	defer func() { _ = watcher.Stop() }()
	keys := map[string]uint64{}
	for {
		select {
		case entry, ok := <-watcher.Updates():
			if !ok {
				return nil, fmt.Errorf("list keys of %s: %w", wire.BucketDesired, errors.Join(nats.ErrConnectionClosed, ctx.Err()))
			}
			if entry == nil { // the marker of the end
				return keys, nil
			}
			keys[entry.Key()] = entry.Revision()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *Store) bucket(ctx context.Context, b wire.Bucket) (jetstream.KeyValue, error) {
	bucket, err := s.js.KeyValue(ctx, string(b))
	if err != nil {
		return nil, unavailable(fmt.Errorf("open bucket %s: %w", b, err))
	}
	return bucket, nil
}

func (s *Store) put(ctx context.Context, b wire.Bucket, key string, data []byte, after uint64) (revision uint64, err error) {
	if most := b.MaxValueBytes(); len(data) > int(most) {
		return 0, fmt.Errorf("put %s in %s: %d bytes, at most %d: %w", key, b, len(data), most, ErrTooLarge)
	}
	var opts []jetstream.PublishOpt
	if after != Any {
		opts = append(opts, jetstream.WithExpectLastSequencePerSubject(after))
	}
	// No message id: writes are idempotent, and a guessed id drops a write.
	ack, err := s.js.Publish(ctx, b.Subject(key), data, opts...)
	if err != nil {
		if refusal := (*jetstream.APIError)(nil); errors.As(err, &refusal) && slices.Contains(wrongSequence, refusal.ErrorCode) {
			err = fmt.Errorf("%w (%s)", ErrConflict, refusal.Description)
		}
		return 0, unavailable(fmt.Errorf("put %s in %s: %w", key, b, err))
	}
	return ack.Sequence, nil
}

// wrongSequence are JetStream's words for ErrConflict: the second is a cluster's,
// when another write of the key is on its way.
var wrongSequence = []jetstream.ErrorCode{jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant}

func (s *Store) purge(ctx context.Context, b wire.Bucket, key string, revision uint64) error {
	opts := []jetstream.StreamPurgeOpt{jetstream.WithPurgeSubject(b.Subject(key))}
	if revision != Any {
		opts = append(opts, jetstream.WithPurgeSequence(revision+1)) // up to, and without
	}
	stream, err := s.js.Stream(ctx, b.Stream())
	if err == nil {
		err = stream.Purge(ctx, opts...)
	}
	if err != nil {
		return unavailable(fmt.Errorf("forget %s in %s: %w", key, b, err))
	}
	return nil
}

func desiredKey(device, deployment string) (string, error) {
	if err := errors.Join(wire.ValidateDeviceID(device), wire.ValidateDeploymentName(deployment)); err != nil {
		return "", err
	}
	return wire.DesiredKey(device, deployment), nil
}

// unavailable adds a hint where the broker, not the request, is at fault.
func unavailable(err error) error {
	switch {
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrNoStreamResponse),
		errors.Is(err, jetstream.ErrStreamNotFound), errors.Is(err, jetstream.ErrBucketNotFound):
		return hint.Wrap(err, "the buckets are missing or JetStream is down; restart fleet-server, which makes them")
	}
	return err
}
