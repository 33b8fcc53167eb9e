package operator

import (
	"context"
	"maps"
	"slices"

	"github.com/nationtech/fleetctl/internal/wire"
)

// audit compares the bucket's keys with what is remembered and gives the
// devices that differ: keys that vanished, as after a wipe, and keys that
// somebody else wrote, such as an operator that did not know yet that it leads no
// more.
func (wr *writer) audit(ctx context.Context) ([]string, error) {
	before := wr.snapshot()
	present, err := wr.store.Keys(ctx)
	if err != nil {
		return nil, err
	}
	now := wr.snapshot()
	differ := map[string]struct{}{}
	for key, sequence := range present {
		device, deployment, ok := wire.ParseDesiredKey(key)
		// What is written in the meantime is as it is now, or as it was.
		if !ok || before[key] == sequence || now[key] == sequence {
			continue
		}
		d := wr.device(device)
		if deployment != "" && !wr.has(device, deployment) {
			wr.setKey(device, deployment, storedKey{sequence: sequence})
		}
		wr.mu.Lock()
		d.suspect(key)
		wr.mu.Unlock()
		differ[device] = struct{}{}
	}
	for key, sequence := range before {
		if _, ok := present[key]; ok || now[key] != sequence {
			continue
		}
		device, deployment, _ := wire.ParseDesiredKey(key)
		wr.lost(device, deployment)
		differ[device] = struct{}{}
	}
	return slices.Collect(maps.Keys(differ)), nil
}

// snapshot lists the keys that are thought stored, with their sequences.
func (wr *writer) snapshot() map[string]uint64 {
	wr.mu.Lock()
	defer wr.mu.Unlock()
	out := make(map[string]uint64, 2*len(wr.devices))
	for id, d := range wr.devices {
		if d.sequence > 0 {
			out[wire.ManifestKey(id)] = d.sequence
		}
		for name, key := range d.keys {
			out[wire.DesiredKey(id, name)] = key.sequence
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

// lost forgets a key that is not stored any more; "" names the manifest.
func (wr *writer) lost(device, name string) {
	if name != "" {
		wr.dropKey(device, name)
		return
	}
	d := wr.device(device)
	wr.mu.Lock()
	defer wr.mu.Unlock()
	d.manifest, d.sequence = nil, 0
}

// known lists the devices that something is remembered of.
func (wr *writer) known() []string {
	wr.mu.Lock()
	defer wr.mu.Unlock()
	return slices.Collect(maps.Keys(wr.devices))
}
