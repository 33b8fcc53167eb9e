package fleet

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// snapshotAge is how old a snapshot may be that is not the newest: it bounds
// what a storm of changes costs.
const snapshotAge = 50 * time.Millisecond

// Store holds what is known. It is safe for concurrent use.
type Store struct {
	mu          sync.Mutex
	devices     []*Device     // by name
	deployments []*Deployment // by namespace and name
	version     uint64
	last        *Snapshot
	changed     chan struct{} // closed at the next change
}

// NewStore gives an empty store. Versions go on where those of a store that
// was there before, in this process or another, could not have been.
func NewStore() *Store {
	return &Store{version: uint64(time.Now().UnixMilli()), changed: make(chan struct{})}
}

// PutDevice makes o the device of its name. o is the store's from then on.
func (s *Store) PutDevice(o *v1alpha1.Device) {
	d := newDevice(o)
	s.change(func() { s.devices = put(s.devices, d, byName) })
}

// DeleteDevice forgets a device.
func (s *Store) DeleteDevice(name string) {
	s.change(func() { s.devices = remove(s.devices, name, deviceIs) })
}

// PutDeployment makes o the deployment of its namespace and name. o is the
// store's from then on.
func (s *Store) PutDeployment(o *v1alpha1.Deployment) {
	d := newDeployment(o)
	s.change(func() { s.deployments = put(s.deployments, d, byKey) })
}

// DeleteDeployment forgets a deployment.
func (s *Store) DeleteDeployment(namespace, name string) {
	s.change(func() { s.deployments = remove(s.deployments, [2]string{namespace, name}, deploymentIs) })
}

func (s *Store) change(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
	s.version++
	close(s.changed)
	s.changed = make(chan struct{})
}

// Changed is closed once there is something newer than the snapshot of that
// version.
func (s *Store) Changed(version uint64) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if version != s.version {
		done := make(chan struct{})
		close(done)
		return done
	}
	return s.changed
}

// Snapshot gives the fleet as it is, or was a moment ago.
func (s *Store) Snapshot() *Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.last != nil && (s.last.Version == s.version || now.Sub(s.last.at) < snapshotAge) {
		return s.last
	}
	s.last = newSnapshot(slices.Clone(s.devices), slices.Clone(s.deployments), s.version, now)
	return s.last
}

func byName(a, b *Device) int          { return strings.Compare(a.Name, b.Name) }
func deviceIs(d *Device, n string) int { return strings.Compare(d.Name, n) }
func byKey(a, b *Deployment) int       { return deploymentIs(a, [2]string{b.Namespace, b.Name}) }
func deploymentIs(d *Deployment, k [2]string) int {
	if c := strings.Compare(d.Namespace, k[0]); c != 0 {
		return c
	}
	return strings.Compare(d.Name, k[1])
}

func put[T any](sorted []T, v T, compare func(a, b T) int) []T {
	// Lists arrive in order.
	if n := len(sorted); n == 0 || compare(sorted[n-1], v) < 0 {
		return append(sorted, v)
	}
	i, found := slices.BinarySearchFunc(sorted, v, compare)
	if found {
		sorted[i] = v
		return sorted
	}
	return slices.Insert(sorted, i, v)
}

func remove[T, K any](sorted []T, key K, compare func(T, K) int) []T {
	if i, found := slices.BinarySearchFunc(sorted, key, compare); found {
		return slices.Delete(sorted, i, i+1)
	}
	return sorted
}
