package operator

import (
	"context"
	"encoding/json"
	"errors"

	"golang.org/x/sync/errgroup"

	"github.com/nationtech/fleetctl/internal/broker/kv"
	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/desired"
)

// loaders is how many keys are read at a time.
const loaders = 64

// load reads the whole bucket.
func (wr *writer) load(ctx context.Context) error {
	keys, err := wr.store.Keys(ctx)
	if err != nil {
		return err
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(loaders)
	for key := range keys {
		group.Go(func() error { return wr.loadKey(gctx, key) })
	}
	return group.Wait()
}

// loadKey remembers what a key holds, or that it holds nothing.
func (wr *writer) loadKey(ctx context.Context, key string) error {
	device, deployment, ok := wire.ParseDesiredKey(key)
	if !ok {
		wr.log.Warn("a key that is none of ours is left alone", "bucket", wire.BucketDesired, "key", key)
		return nil
	}
	v, err := wr.store.Get(ctx, wire.BucketDesired, key)
	switch {
	case errors.Is(err, kv.ErrNotFound):
		wr.lost(device, deployment)
	case err != nil:
		return err
	case deployment == "":
		wr.loadManifest(device, v)
	default:
		uid, generation, tag := originOf(v.Data)
		wr.setKey(device, deployment, storedKey{sequence: v.Revision, uid: uid, hash: wire.Hash(v.Data), generation: generation, at: v.At, tag: tag})
	}
	return nil
}

// loadManifest remembers a manifest. One that devices would not trust counts
// as none, so that it is written anew, with a revision above what it claims.
func (wr *writer) loadManifest(device string, v kv.Value) {
	d := wr.device(device)
	var m wire.Manifest
	err := wire.Open(wire.KindManifest, v.Data, wr.signer.Pinned().Keys, &m)
	if err == nil {
		err = m.Validate(device)
	}
	if err != nil {
		wr.log.Warn("a stored manifest is not ours and is written anew", "device", device, "err", err)
		m = unverifiedManifest(v.Data)
		if !desired.PlausibleRevision(m.Revision, wr.now()) {
			m.Revision = 0
		}
	}
	wr.mu.Lock()
	defer wr.mu.Unlock()
	d.sequence, d.manifest = v.Revision, nil
	if err == nil {
		// When it was written is not known: as if now, so that an operator that
		// starts does not tell a whole fleet again by its last heartbeats.
		d.manifest, d.epoch, d.told = map[string]string{}, wr.signer.EpochOf(v.Data), wr.now()
		for _, e := range m.Deployments {
			d.manifest[e.Name] = e.SHA256
		}
		// Devices that have taken a newer one refuse it.
		d.stale = m.Revision < d.revision
	}
	d.revision = max(d.revision, m.Revision)
}

// originOf is the uid of the Deployment that a stored desired state came from,
// and the generation; nothing when it cannot be told.
func originOf(data []byte) (uid string, generation int64, tag string) {
	var s wire.DesiredState
	if json.Unmarshal(data, &s) != nil {
		return "", 0, ""
	}
	if s.Sealed != nil {
		tag = s.Sealed.Tag
	}
	return s.UID, s.Generation, tag
}

// unverifiedManifest reads a manifest without believing it: only its revision
// is of use, to write a greater one.
func unverifiedManifest(sealed []byte) wire.Manifest {
	var e wire.Envelope
	var m wire.Manifest
	if json.Unmarshal(sealed, &e) != nil || json.Unmarshal(e.Payload, &m) != nil {
		return wire.Manifest{}
	}
	return m
}

// doubt notes a key whose write failed because somebody else had written it. It
// gives err.
func (wr *writer) doubt(d *storedDevice, key string, err error) error {
	if errors.Is(err, kv.ErrConflict) {
		wr.mu.Lock()
		defer wr.mu.Unlock()
		d.suspect(key)
	}
	return err
}

// suspect is called with the writer's mu held.
func (d *storedDevice) suspect(key string) {
	if d.doubtful == nil {
		d.doubtful = map[string]struct{}{}
	}
	d.doubtful[key] = struct{}{}
}

// settle reads what is in doubt again.
func (wr *writer) settle(ctx context.Context, d *storedDevice) error {
	wr.mu.Lock()
	doubtful := d.doubtful
	d.doubtful = nil
	wr.mu.Unlock()
	for key := range doubtful {
		if err := wr.loadKey(ctx, key); err != nil {
			wr.mu.Lock()
			defer wr.mu.Unlock()
			for key := range doubtful {
				d.suspect(key)
			}
			return err
		}
	}
	return nil
}
