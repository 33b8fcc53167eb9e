// Package registry remembers which machine a device id was given to, and which
// ids were revoked: a file each, in one directory. It does not know whether a
// device is there, nor what it runs.
package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/secretfile"
	"github.com/nationtech/fleetctl/internal/wire"
)

// ErrOtherMachine says that an id belongs to another machine.
var ErrOtherMachine = errors.New("id is registered from another machine")

// ErrUnknown says that an id is not registered.
var ErrUnknown = errors.New("id is not registered")

// Entry is one registered id.
type Entry struct {
	SchemaVersion int       `json:"schemaVersion"`
	Device        string    `json:"device"`
	MachineID     string    `json:"machineId"` // a name from internal/machineid
	Enrolled      time.Time `json:"enrolled"`
	Revoked       time.Time `json:"revoked,omitzero"`
}

const suffix = ".json"

// Registry is safe for concurrent use by one process.
type Registry struct {
	dir string
	mu  sync.RWMutex
	all map[string]Entry
}

// Open reads the registry in dir, or begins an empty one. An unreadable entry
// is an error: a revoked device must not come back because of it.
func Open(dir string) (*Registry, error) {
	if err := secretfile.EnsureDir(dir); err != nil {
		return nil, err
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read registry: %w", err)
	}
	r := &Registry{dir: dir, all: map[string]Entry{}}
	for _, f := range files {
		id, ok := strings.CutSuffix(f.Name(), suffix)
		if !ok {
			continue // what an interrupted write left
		}
		e, err := r.read(id)
		if err != nil {
			return nil, hint.Wrap(err, "restore the file from a backup; or remove it, and onboard the device again")
		}
		r.all[id] = e
	}
	return r, nil
}

// Enrolled says whether the id is this machine's and not revoked, without
// changing anything. Its errors are those that Enrol would give.
func (r *Registry) Enrolled(device, machineID string, replace bool) (bool, error) {
	if err := wire.ValidateDeviceID(device); err != nil {
		return false, err
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.enrolled(device, machineID, replace)
}

func (r *Registry) enrolled(device, machineID string, replace bool) (bool, error) {
	old, known := r.all[device]
	if known && old.MachineID != machineID && !replace {
		return false, fmt.Errorf("device %s: %w since %s", device, ErrOtherMachine, old.Enrolled.Format(time.DateOnly))
	}
	return known && old.MachineID == machineID && old.Revoked.IsZero(), nil
}

// Enrol gives the id to a machine and lifts a revocation. An id that another
// machine has is ErrOtherMachine, unless replace says that this one takes its
// place.
func (r *Registry) Enrol(device, machineID string, replace bool, now time.Time) (Entry, error) {
	if err := wire.ValidateDeviceID(device); err != nil {
		return Entry{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if same, err := r.enrolled(device, machineID, replace); same || err != nil {
		return r.all[device], err
	}
	return r.write(Entry{SchemaVersion: wire.SchemaVersion, Device: device, MachineID: machineID, Enrolled: now.UTC()})
}

// Revoke shuts a device out until it is enrolled again.
func (r *Registry) Revoke(device string, now time.Time) (Entry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, known := r.all[device]
	switch {
	case !known:
		return Entry{}, fmt.Errorf("device %s: %w", device, ErrUnknown)
	case !e.Revoked.IsZero():
		return e, nil
	}
	e.Revoked = now.UTC()
	return r.write(e)
}

// Get gives the entry of an id; ok is false when there is none.
func (r *Registry) Get(device string) (e Entry, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	e, ok = r.all[device]
	return e, ok
}

// Denied is for the auth callout: only ids that are registered and not revoked
// may connect.
func (r *Registry) Denied(device string) bool {
	e, ok := r.Get(device)
	return !ok || !e.Revoked.IsZero()
}

func (r *Registry) path(device string) string { return filepath.Join(r.dir, device+suffix) }

// write stores first, so that what was promised is on disk.
func (r *Registry) write(e Entry) (Entry, error) {
	data, err := json.Marshal(e)
	if err != nil {
		return Entry{}, fmt.Errorf("encode registry entry: %w", err)
	}
	if err := secretfile.Write(r.path(e.Device), append(data, '\n')); err != nil {
		return Entry{}, err
	}
	r.all[e.Device] = e
	return e, nil
}

func (r *Registry) read(id string) (Entry, error) {
	data, err := secretfile.Read(r.path(id))
	if err != nil {
		return Entry{}, err
	}
	var e Entry
	if err := json.Unmarshal(data, &e); err != nil {
		return Entry{}, fmt.Errorf("decode registry entry %s: %w", r.path(id), err)
	}
	if e.Device != id || wire.ValidateDeviceID(id) != nil {
		return Entry{}, fmt.Errorf("registry entry %s is about device %q", r.path(id), e.Device)
	}
	return e, nil
}
