package operator

import (
	"sync"
	"time"

	"github.com/nationtech/fleetctl/operator/rollout"
)

// linkage remembers since when devices have been connected, or not.
type linkage struct {
	mu sync.Mutex
	of map[string]seenLink
}

type seenLink struct {
	up    bool
	since time.Time
}

func newLinkage() *linkage { return &linkage{of: map[string]seenLink{}} }

func (l *linkage) since(device string, up bool, now time.Time) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	old, known := l.of[device]
	if !known || old.up != up {
		old = seenLink{up: up, since: now}
		l.of[device] = old
	}
	return old.since
}

// connect fills in which devices are there.
func (r *rolloutReconciler) connect(devices []rollout.Device, now time.Time) {
	for i := range devices {
		d := &devices[i]
		d.Connected = r.here(d.ID, now)
		d.Since = r.linkage.since(d.ID, d.Connected, now)
	}
}

// here says whether a device is connected: by what NATS says of its link, or
// where nobody can tell, by its heartbeats.
func (c *core) here(device string, now time.Time) bool {
	if link := c.link(device); link.known {
		return link.up
	}
	return c.registry.heardLately(device, now)
}

// linksKnown says whether here can be relied on. To take a fleet for offline
// that is not would complete its rollouts.
func (c *core) linksKnown() bool { return c.links == nil || c.links.Complete() }
