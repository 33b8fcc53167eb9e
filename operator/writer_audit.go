package operator

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"github.com/nationtech/fleetctl/internal/wire"
)

// audit compares the bucket's keys with what is remembered and gives the
// devices that differ: keys that vanished, as after a wipe, and keys that
// nobody put there.
func (wr *writer) audit(ctx context.Context) ([]string, error) {
	before := wr.snapshot()
	keys, err := wr.store.Keys(ctx)
	if err != nil {
		return nil, err
	}
	present := make(map[string]struct{}, len(keys))
	differ := map[string]struct{}{}
	for _, key := range keys {
		device, deployment, ok := wire.ParseDesiredKey(key)
		if !ok {
			continue
		}
		present[key] = struct{}{}
		if deployment != "" && !wr.has(device, deployment) {
			wr.setKey(device, deployment, storedKey{})
			differ[device] = struct{}{}
		}
	}
	for device, names := range before {
		for _, name := range names {
			key := wire.ManifestKey(device)
			if name != "" {
				key = wire.DesiredKey(device, name)
			}
			if _, ok := present[key]; ok {
				continue
			}
			wr.lost(device, name)
			differ[device] = struct{}{}
		}
	}
	out := make([]string, 0, len(differ))
	for device := range differ {
		out = append(out, device)
	}
	return out, nil
}

// snapshot lists the stored deployments of each device; "" is its manifest. It
// is taken before the keys are listed, so that a key which is written in
// between is not thought lost.
func (wr *writer) snapshot() map[string][]string {
	wr.mu.Lock()
	defer wr.mu.Unlock()
	out := make(map[string][]string, len(wr.devices))
	for id, d := range wr.devices {
		if d.manifest != nil {
			out[id] = append(out[id], "")
		}
		for name := range d.keys {
			out[id] = append(out[id], name)
		}
	}
	return out
}

func (wr *writer) has(device, name string) bool {
	wr.mu.Lock()
	defer wr.mu.Unlock()
	d := wr.devices[device]
	if d == nil {
		return false
	}
	_, ok := d.keys[name]
	return ok
}

func (wr *writer) lost(device, name string) {
	if name != "" {
		wr.dropKey(device, name)
		return
	}
	d := wr.device(device)
	wr.mu.Lock()
	defer wr.mu.Unlock()
	d.manifest = nil
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

// known lists the devices that something is remembered of.
func (wr *writer) known() []string {
	wr.mu.Lock()
	defer wr.mu.Unlock()
	return slices.Collect(maps.Keys(wr.devices))
}
