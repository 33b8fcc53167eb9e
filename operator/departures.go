package operator

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// departures are the Deployments that are being deleted and the devices that
// have yet to be told. A device counts as told by a sync that began after the
// Deployment left the model, which the model's version shows.
type departures struct {
	mu    sync.Mutex
	byUID map[types.UID]*departure
}

type departure struct {
	key     types.NamespacedName
	version uint64
	waiting map[string]struct{}
}

func newDepartures() *departures { return &departures{byUID: map[types.UID]*departure{}} }

// begin is idempotent: only the first call for a uid names its devices.
func (d *departures) begin(uid types.UID, key types.NamespacedName, version uint64, devices []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.byUID[uid] != nil {
		return
	}
	dep := &departure{key: key, version: version, waiting: map[string]struct{}{}}
	for _, device := range devices {
		dep.waiting[device] = struct{}{}
	}
	d.byUID[uid] = dep
}

// synced notes that a device has what the model said at version, and gives the
// Deployments that no longer wait for any.
func (d *departures) synced(device string, version uint64) (complete []types.NamespacedName) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, dep := range d.byUID {
		if _, waits := dep.waiting[device]; !waits || version < dep.version {
			continue
		}
		delete(dep.waiting, device)
		if len(dep.waiting) == 0 {
			complete = append(complete, dep.key)
		}
	}
	return complete
}

// complete says whether every device has been told.
func (d *departures) complete(uid types.UID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	dep := d.byUID[uid]
	return dep != nil && len(dep.waiting) == 0
}

// keyOf gives the Deployment of a uid that is being deleted.
func (d *departures) keyOf(uid types.UID) (types.NamespacedName, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	dep := d.byUID[uid]
	if dep == nil {
		return types.NamespacedName{}, false
	}
	return dep.key, true
}

func (d *departures) end(uid types.UID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.byUID, uid)
}
