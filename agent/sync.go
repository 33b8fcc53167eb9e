package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/nationtech/fleetctl/agent/disk"
	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/wire"
)

const (
	// maxFetches is how many desired states are fetched at the same time.
	maxFetches = 4
	// hintPause is the least time between two looks, however many hints come.
	hintPause = 50 * time.Millisecond
)

// load gives the engine what is on disk. Without anything there the engine is
// given nothing: nothing is removed before a signed manifest was seen.
func (a *Agent) load() {
	held, problem := disk.LoadDesired(a.cfg.StateDir)
	if problem != nil {
		a.log.Warn("desired state on disk is damaged", "error", problem, "previous_used", held != nil)
	}
	if held == nil {
		return
	}
	if err := held.Manifest.Validate(a.cfg.Device); err != nil {
		a.log.Warn("desired state on disk is not for this device", "error", err)
		return
	}
	a.held = held
	a.apply()
	a.log.Info("desired state loaded from disk", "revision", held.Manifest.Revision, "deployments", len(held.Manifest.Deployments))
}

// syncLoop looks at the manifest on connect, on a hint and now and then: a
// device whose hint was lost is told again, since its heartbeat carries the
// revision that it has.
func (a *Agent) syncLoop(ctx context.Context) {
	retry := backoff{first: 250 * time.Millisecond, last: a.timing.Tick}
	look := time.NewTimer(jittered(a.timing.Look))
	defer look.Stop()
	var err error
	for {
		a.pulse.beat("sync")
		select {
		case <-ctx.Done():
			return
		case <-a.look:
		case <-look.C:
		case <-time.After(a.timing.Tick):
			a.store() // what a full disk kept from it
			continue
		case <-retry.after(err):
		}
		look.Reset(jittered(a.timing.Look))
		err = nil
		if !a.link.Up() {
			continue // a connect wakes this loop
		}
		err = a.sync(ctx)
		if ctx.Err() != nil {
			return
		}
		if a.link.Up() || err == nil { // the link reports its own problems
			a.setFault(func(f *faults) *error { return &f.manifest }, err)
		}
		sleep(ctx, hintPause)
	}
}

// sync makes one look: the manifest, then what changed.
func (a *Agent) sync(ctx context.Context) error {
	data, found, err := a.link.Get(ctx, wire.BucketDesired, wire.ManifestKey(a.cfg.Device))
	if err != nil {
		return err
	}
	if !found {
		return nil // never written, or the bucket was wiped: what runs stays
	}
	var m wire.Manifest
	if err := a.keys.open(wire.KindManifest, data, &m); err != nil {
		return hint.Wrap(fmt.Errorf("manifest refused: %w", err),
			"onboard the device again if the control plane was set up anew: its signing key is pinned")
	}
	if err := m.Validate(a.cfg.Device); err != nil {
		return fmt.Errorf("manifest refused: %w", err)
	}
	a.mu.Lock()
	held := a.held
	a.mu.Unlock()
	if held != nil && m.Revision < held.Manifest.Revision {
		return fmt.Errorf("manifest refused: revision %d %w, %d", m.Revision, wire.ErrOldRevision, held.Manifest.Revision)
	}
	return a.accept(ctx, held, m)
}

// accept fetches what the manifest names and is not held, stores all of it and
// hands it to the engine. A state that cannot be fetched holds up that
// deployment only: its previous version stays in force.
func (a *Agent) accept(ctx context.Context, held *disk.Desired, m wire.Manifest) error {
	next := &disk.Desired{SchemaVersion: wire.SchemaVersion, Manifest: m, States: map[string][]byte{}}
	var missing []wire.ManifestEntry
	for _, e := range m.Deployments {
		if held == nil {
			missing = append(missing, e)
			continue
		}
		data, current := held.Current(e)
		if data != nil {
			next.States[e.Name] = data
		}
		if !current {
			missing = append(missing, e)
		}
	}
	fetched, failed := a.fetchAll(ctx, missing)
	if err := ctx.Err(); err != nil {
		return err
	}
	maps.Copy(next.States, fetched)

	a.mu.Lock()
	first := a.held == nil
	newManifest := first || !reflect.DeepEqual(a.held.Manifest, m)
	changed := newManifest || len(fetched) > 0
	a.held, a.fetch = next, failed
	if changed {
		a.unstored = true
		a.apply()
	}
	a.mu.Unlock()

	if changed {
		signal(a.reconcile)
		signal(a.report)
	}
	a.store() // after it is in force: a full disk must not stop an update
	if newManifest {
		a.log.Info("manifest accepted", "revision", m.Revision, "deployments", len(m.Deployments), "fetched", len(fetched), "failed", len(failed))
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(failed)) {
		errs = append(errs, fmt.Errorf("deployment %s: %w", name, failed[name]))
	}
	return errors.Join(errs...)
}

// store puts what is held on the disk, if that is not there yet.
func (a *Agent) store() {
	a.mu.Lock()
	held, due := a.held, a.unstored
	a.mu.Unlock()
	if !due {
		return
	}
	err := disk.SaveDesired(a.cfg.StateDir, held)
	if err == nil {
		a.mu.Lock()
		a.unstored = false // only this loop changes what is held
		a.mu.Unlock()
	}
	a.setFault(func(f *faults) *error { return &f.disk }, err)
}

// fetchAll gets the states of entries, a few at a time.
func (a *Agent) fetchAll(ctx context.Context, entries []wire.ManifestEntry) (got map[string][]byte, failed map[string]error) {
	got, failed = map[string][]byte{}, map[string]error{}
	var mu sync.Mutex
	var group sync.WaitGroup
	places := make(chan struct{}, maxFetches)
	for _, e := range entries {
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			data, err := a.fetchOne(ctx, e)
			a.pulse.beat("sync")
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed[e.Name] = err
				return
			}
			got[e.Name] = data
		})
	}
	group.Wait()
	return got, failed
}

// fetchOne gets one desired state. The manifest's hash vouches for it.
func (a *Agent) fetchOne(ctx context.Context, e wire.ManifestEntry) ([]byte, error) {
	data, found, err := a.link.Get(ctx, wire.BucketDesired, wire.DesiredKey(a.cfg.Device, e.Name))
	switch {
	case err != nil:
		return nil, err
	case !found:
		return nil, fmt.Errorf("its desired state %w", wire.ErrMissing)
	case wire.Hash(data) != e.SHA256:
		return nil, fmt.Errorf("its desired state %w", wire.ErrNotAsSigned) // or about to be
	}
	return data, nil
}

// apply gives the engine what is held. a.mu is held, or nothing runs yet.
func (a *Agent) apply() {
	var states []wire.DesiredState
	var keep []string
	a.broken = map[string]error{}
	for _, e := range a.held.Manifest.Deployments {
		data, have := a.held.States[e.Name]
		if !have {
			keep = append(keep, e.Name)
			continue
		}
		var s wire.DesiredState
		err := json.Unmarshal(data, &s)
		if err == nil && s.Deployment != e.Name {
			err = fmt.Errorf("it is about deployment %q", s.Deployment)
		}
		if err != nil {
			a.broken[e.Name] = fmt.Errorf("its desired state cannot be used: %w", err)
			keep = append(keep, e.Name)
			continue
		}
		states = append(states, s)
	}
	a.cfg.Engine.Set(states, keep)
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
