package operator

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/desired"
)

// writer brings the desired-state bucket to what the model says, one device at
// a time. It remembers what is stored, and writes a key only if its bytes
// differ.
type writer struct {
	store  DesiredStore
	signer Signer
	now    func() time.Time
	log    *slog.Logger

	mu      sync.Mutex
	devices map[string]*storedDevice
	holders map[string]map[string]struct{} // devices with a key of a Deployment, by its uid
}

// storedDevice is what the bucket has for one device. Only one sync works on a
// device at a time; mu guards against others that look.
type storedDevice struct {
	keys     map[string]storedKey // by deployment name
	manifest map[string]string    // hash by deployment name; nil: none that is ours
	epoch    string               // of the manifest's signature
	revision uint64               // of the newest manifest known, here or on the device
	sequence uint64               // of the stored manifest in the bucket; 0: there is none
	stale    bool                 // the device has a newer revision than is stored
	told     time.Time            // when the manifest was written, or read at the start
	// doubtful are the keys that somebody else wrote: read again before the next
	// write.
	doubtful map[string]struct{}
}

type storedKey struct {
	sequence   uint64 // in the bucket
	uid, hash  string
	generation int64     // by which the device knows the score
	at         time.Time // when it was written
	tag        string    // of what is sealed in it
}

func newWriter(store DesiredStore, signer Signer, now func() time.Time, log *slog.Logger) *writer {
	return &writer{
		store: store, signer: signer, now: now, log: log,
		devices: map[string]*storedDevice{}, holders: map[string]map[string]struct{}{},
	}
}

// sync brings one device's keys to w. New and changed keys come first, then
// the manifest that points to them, then the removal of what it no longer
// points to: no manifest ever points to nothing. always says whether the
// device gets one even when there is nothing to run. It gives the uids of the
// Deployments that lost a key.
func (wr *writer) sync(ctx context.Context, device string, w want, always bool) (released []string, err error) {
	d := wr.device(device)
	if err := wr.settle(ctx, d); err != nil {
		return nil, err
	}
	wr.mu.Lock()
	keys, manifest := maps.Clone(d.keys), always || d.manifest != nil
	wr.mu.Unlock()

	hashes := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(w.states)) {
		s := w.states[name]
		hashes[name] = s.Hash
		old := keys[name]
		if old.hash == s.Hash {
			continue
		}
		sequence, err := wr.store.PutDesired(ctx, device, name, s.Bytes, old.sequence)
		if err != nil {
			return released, wr.doubt(d, wire.DesiredKey(device, name), err)
		}
		wr.setKey(device, name, storedKey{sequence: sequence, uid: s.UID, hash: s.Hash, generation: s.Generation, at: wr.now(), tag: s.Tag})
		if old.uid != "" && old.uid != s.UID {
			released = append(released, old.uid)
		}
	}
	for name := range w.frozen {
		if key, ok := keys[name]; ok {
			hashes[name] = key.hash
		}
	}
	if manifest || len(hashes) > 0 {
		if err := wr.putManifest(ctx, device, d, hashes); err != nil {
			return released, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		if _, wanted := hashes[name]; wanted {
			continue
		}
		if err := wr.store.Delete(ctx, device, name, keys[name].sequence); err != nil {
			return released, err
		}
		wr.dropKey(device, name)
		released = append(released, keys[name].uid)
	}
	return released, nil
}

func (wr *writer) putManifest(ctx context.Context, device string, d *storedDevice, hashes map[string]string) error {
	epoch := wr.signer.Epoch() // before it is signed: a change in between has it written once more
	wr.mu.Lock()
	same := d.manifest != nil && !d.stale && d.epoch == epoch && maps.Equal(d.manifest, hashes)
	revision := desired.NextRevision(d.revision, wr.now())
	wr.mu.Unlock()
	if same {
		return nil
	}
	sealed, err := wr.signer.Seal(wire.KindManifest, desired.Manifest(device, revision, hashes))
	if err != nil {
		return fmt.Errorf("manifest of %s: %w", device, err)
	}
	wr.mu.Lock()
	d.revision = revision // also if the put fails: it may have arrived
	d.manifest = nil
	after := d.sequence
	wr.mu.Unlock()
	sequence, err := wr.store.PutManifest(ctx, device, sealed, after)
	if err != nil {
		return wr.doubt(d, wire.ManifestKey(device), err)
	}
	wr.mu.Lock()
	d.manifest, d.epoch, d.sequence, d.stale, d.told = hashes, epoch, sequence, false, wr.now()
	wr.mu.Unlock()
	wr.log.Debug("manifest written", "device", device, "revision", revision, "deployments", len(hashes))
	return nil
}

// accepted takes the revision that a device says it holds. It gives true when
// that is newer than what is stored, which a store restored from a copy leads
// to: the device would refuse what it is told until a newer one is written.
func (wr *writer) accepted(device string, revision uint64) bool {
	if !desired.PlausibleRevision(revision, wr.now()) {
		return false
	}
	d := wr.device(device)
	wr.mu.Lock()
	defer wr.mu.Unlock()
	if revision <= d.revision {
		return false
	}
	d.revision, d.stale = revision, true
	return true
}

// hintPatience is how long a device may take to look after a hint.
const hintPatience = 30 * time.Second

// behind takes the revision of a heartbeat. It gives true when the device
// missed the hint to look again: the manifest is written anew, which is one.
func (wr *writer) behind(device string, revision uint64) bool {
	d := wr.device(device)
	wr.mu.Lock()
	defer wr.mu.Unlock()
	if d.manifest == nil || revision >= d.revision || wr.now().Sub(d.told) < hintPatience {
		return false
	}
	d.stale = true
	return true
}

// sealedAs gives the hash of what is stored for a deployment of a device if
// that has the content which the tag names.
func (wr *writer) sealedAs(device, name, tag string) (hash string, ok bool) {
	d := wr.device(device)
	wr.mu.Lock()
	defer wr.mu.Unlock()
	key := d.keys[name]
	return key.hash, key.tag == tag && key.hash != ""
}

// revision is that of the newest manifest of a device.
func (wr *writer) revision(device string) uint64 {
	d := wr.device(device)
	wr.mu.Lock()
	defer wr.mu.Unlock()
	return d.revision
}

// stored lists the deployments that a device has keys of.
func (wr *writer) stored(device string) []string {
	d := wr.device(device)
	wr.mu.Lock()
	defer wr.mu.Unlock()
	return slices.Collect(maps.Keys(d.keys))
}

// toldOf is what a device was told of a Deployment, and whether it has a
// manifest of ours at all.
func (wr *writer) toldOf(device, name, uid string) (key storedKey, manifest bool) {
	d := wr.device(device)
	wr.mu.Lock()
	defer wr.mu.Unlock()
	if key = d.keys[name]; key.uid != uid {
		key = storedKey{}
	}
	return key, d.manifest != nil
}

// held says whether any device has a key of the Deployment.
func (wr *writer) held(uid string) bool {
	wr.mu.Lock()
	defer wr.mu.Unlock()
	return len(wr.holders[uid]) > 0
}

// forget drops what is remembered of a device whose keys were removed.
func (wr *writer) forget(device string) {
	for _, name := range wr.stored(device) {
		wr.dropKey(device, name)
	}
	wr.mu.Lock()
	defer wr.mu.Unlock()
	delete(wr.devices, device)
}

func (wr *writer) device(id string) *storedDevice {
	wr.mu.Lock()
	defer wr.mu.Unlock()
	d := wr.devices[id]
	if d == nil {
		d = &storedDevice{keys: map[string]storedKey{}}
		wr.devices[id] = d
	}
	return d
}

func (wr *writer) setKey(device, name string, key storedKey) {
	wr.dropKey(device, name)
	d := wr.device(device)
	wr.mu.Lock()
	defer wr.mu.Unlock()
	d.keys[name] = key
	if wr.holders[key.uid] == nil {
		wr.holders[key.uid] = map[string]struct{}{}
	}
	wr.holders[key.uid][device] = struct{}{}
}

func (wr *writer) dropKey(device, name string) {
	d := wr.device(device)
	wr.mu.Lock()
	defer wr.mu.Unlock()
	uid := d.keys[name].uid
	delete(d.keys, name)
	delete(wr.holders[uid], device)
	if len(wr.holders[uid]) == 0 {
		delete(wr.holders, uid)
	}
}
