package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/nationtech/fleetctl/agent/disk"
	"github.com/nationtech/fleetctl/internal/wire"
)

// keyring opens what the control plane signed. It begins with the keys that
// onboarding pinned, and follows the control plane from key to key.
type keyring struct {
	load    func() ([]byte, error) // the file of onboarding
	dir     string                 // where keys that followed are kept
	log     *slog.Logger
	changed func() // the keys are others; called with the lock held

	mu        sync.Mutex
	onboarded string // wire.Hash of the file
	pinned    wire.PinnedKeys
	refused   string // the last refusal, which is logged once
}

func newKeyring(load func() ([]byte, error), dir string, log *slog.Logger, changed func()) (*keyring, error) {
	k := &keyring{load: load, dir: dir, log: log, changed: changed}
	if _, err := k.reload(); err != nil {
		return nil, fmt.Errorf("load pinned keys: %w", err)
	}
	return k, nil
}

// reload reads the file of onboarding. If that is another one, its keys are in
// force, or those that followed from it; what followed from the file of before
// is forgotten: whoever onboards a device says anew whom it trusts.
func (k *keyring) reload() (changed bool, err error) {
	data, err := k.load()
	if err != nil || wire.Hash(data) == k.onboarded {
		return false, err
	}
	pinned, err := wire.ParsePinnedKeys(data)
	if err != nil {
		return false, err
	}
	k.onboarded, k.pinned = wire.Hash(data), pinned
	kept, err := disk.LoadKeys(k.dir)
	switch {
	case err != nil:
		k.log.Warn("signing keys that followed those of onboarding are lost; they are asked for again", "error", err)
	case kept != nil && kept.Onboarded == k.onboarded && kept.Pinned.Revision > pinned.Revision && len(kept.Pinned.Keys) > 0:
		k.pinned = kept.Pinned
	}
	return true, nil
}

// open verifies data and decodes it into v. For a key that is not known the
// file of onboarding is read once more.
func (k *keyring) open(kind wire.Kind, data []byte, v any) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if kind == wire.KindManifest {
		k.follow(wire.AttachedKeys(data))
	}
	err := wire.Open(kind, data, k.pinned.Keys, v)
	if !errors.Is(err, wire.ErrUnknownKey) {
		return err
	}
	changed, loadErr := k.reload()
	if loadErr != nil {
		return errors.Join(err, fmt.Errorf("load pinned keys again: %w", loadErr))
	}
	if !changed {
		return err
	}
	k.changed()
	return wire.Open(kind, data, k.pinned.Keys, v)
}

// follow takes the keys that the control plane announces, oldest first. What
// was announced before is passed over; anything else that is not signed by a
// key in force is refused, and what is in force stays.
func (k *keyring) follow(sets []json.RawMessage) {
	for _, sealed := range sets[:min(len(sets), maxKeySets)] {
		if _, revision := wire.PeekKeySet(sealed); revision <= k.pinned.Revision {
			continue
		}
		next, err := k.pinned.Follow(sealed)
		if err == nil {
			// On disk first: what the control plane hears of must last.
			err = disk.SaveKeys(k.dir, &disk.Keys{SchemaVersion: wire.SchemaVersion, Onboarded: k.onboarded, Pinned: next})
		}
		if err != nil {
			if err.Error() != k.refused {
				k.refused = err.Error()
				k.log.Warn("announced signing keys refused", "error", err, "reason", wire.RefusalOf(err))
			}
			continue
		}
		k.log.Info("signing keys of the control plane changed", "revision", next.Revision, "keys", next.IDs(), "before", k.pinned.IDs())
		k.pinned, k.refused = next, ""
		k.changed()
	}
}

// maxKeySets bounds the signatures that are checked beside one manifest.
const maxKeySets = 16

// trusted gives the keys in force, for the report.
func (k *keyring) trusted() (ids []string, revision uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.pinned.IDs()), k.pinned.Revision
}
