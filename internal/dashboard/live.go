package dashboard

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/a-h/templ"

	"github.com/nationtech/fleetctl/internal/dashboard/fleet"
)

// livePace is the least time between two looks at a view: it bounds what a
// storm of changes costs, and is well below what a person waits for.
const livePace = 200 * time.Millisecond

// part is a part of a page that events replace.
type part struct {
	name string // of the event, and of the element
	body templ.Component
}

// liveView is what changes of a page. Views with the same key are the same, and
// are rendered once for all who look at them.
type liveView struct {
	key   string
	every time.Duration // look also when the fleet has not changed; 0: do not
	parts func(ctx context.Context, snap *fleet.Snapshot) []part
}

// hub renders views for their viewers.
type hub struct {
	store *fleet.Store
	log   *slog.Logger

	mu     sync.Mutex
	topics map[string]*topic
}

func newHub(store *fleet.Store, log *slog.Logger) *hub {
	return &hub{store: store, log: log, topics: map[string]*topic{}}
}

// topic is a view with its viewers.
type topic struct {
	view liveView
	stop context.CancelFunc

	mu      sync.Mutex
	viewers map[*viewer]struct{}
	version uint64            // that latest is of; 0 before the first
	latest  map[string][]byte // by part
}

// viewer is one event stream. A slow one gets the newest of each part.
type viewer struct {
	mu      sync.Mutex
	waiting map[string][]byte
	wake    chan struct{}
}

// watch adds a viewer who has seen the view as of a version. Call leave when
// the viewer goes.
func (h *hub) watch(ctx context.Context, view liveView, seen uint64) (v *viewer, leave func()) {
	v = &viewer{waiting: map[string][]byte{}, wake: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.topics[view.key]
	if t == nil {
		t = &topic{view: view, viewers: map[*viewer]struct{}{}, latest: map[string][]byte{}}
		running, stop := context.WithCancel(context.WithoutCancel(ctx))
		t.stop = stop
		h.topics[view.key] = t
		go h.run(running, t)
	}
	t.mu.Lock()
	t.viewers[v] = struct{}{}
	if t.version > seen {
		v.offer(t.latest)
	}
	t.mu.Unlock()
	return v, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.viewers, v)
		if len(t.viewers) == 0 && h.topics[view.key] == t {
			t.stop()
			delete(h.topics, view.key)
		}
	}
}

// run renders a view whenever it may have changed.
func (h *hub) run(ctx context.Context, t *topic) {
	var tick <-chan time.Time
	if t.view.every > 0 {
		ticker := time.NewTicker(t.view.every)
		defer ticker.Stop()
		tick = ticker.C
	}
	for {
		began := time.Now()
		snap := h.store.Snapshot()
		t.publish(snap.Version, h.renderParts(ctx, t.view, snap))
		select {
		case <-ctx.Done():
			return
		case <-tick:
		case <-h.store.Changed(snap.Version):
		}
		// What happens to a view that was quiet is shown at once.
		select {
		case <-ctx.Done():
			return
		case <-time.After(livePace - time.Since(began)):
		}
	}
}

func (h *hub) renderParts(ctx context.Context, view liveView, snap *fleet.Snapshot) map[string][]byte {
	out := map[string][]byte{}
	for _, p := range view.parts(ctx, snap) {
		var buf bytes.Buffer
		if err := p.body.Render(ctx, &buf); err != nil {
			if ctx.Err() == nil {
				h.log.Error("part not rendered", "op", "dashboard", "part", p.name, "error", err)
			}
			continue
		}
		out[p.name] = buf.Bytes()
	}
	return out
}

// publish gives viewers what is new.
func (t *topic) publish(version uint64, parts map[string][]byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	changed := map[string][]byte{}
	for name, body := range parts {
		if !bytes.Equal(t.latest[name], body) {
			t.latest[name], changed[name] = body, body
		}
	}
	t.version = version
	if len(changed) > 0 {
		for v := range t.viewers {
			v.offer(changed)
		}
	}
}

func (v *viewer) offer(parts map[string][]byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for name, body := range parts {
		v.waiting[name] = body
	}
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// take gives what waits.
func (v *viewer) take() map[string][]byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := v.waiting
	v.waiting = map[string][]byte{}
	return out
}
