package presence

import "context"

// watcher is somebody who wants to know what changes. What it has not taken yet
// is a set, so that a slow one costs no more than its fleet.
type watcher struct {
	devices map[string]struct{} // guarded by the tracker's mu
	all     bool
	wake    chan struct{}
}

// Complete says whether the picture is: false from the loss of the system
// account's connection, or the start, to the next listing that succeeded.
func (t *Tracker) Complete() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.complete
}

// Watch calls changed with each device whose links changed, and with "" when
// all may have: the picture became complete, or is not any more. It returns
// when ctx ends.
func (t *Tracker) Watch(ctx context.Context, changed func(device string)) {
	w := &watcher{devices: map[string]struct{}{}, all: true, wake: make(chan struct{}, 1)}
	w.wake <- struct{}{}
	t.mu.Lock()
	t.watchers[w] = struct{}{}
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.watchers, w)
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		}
		t.mu.Lock()
		devices, all := w.devices, w.all
		w.devices, w.all = map[string]struct{}{}, false
		t.mu.Unlock()
		if all {
			changed("")
			continue
		}
		for device := range devices {
			changed(device)
		}
	}
}

// tell is called without mu.
func (t *Tracker) tell(device string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for w := range t.watchers {
		if device == "" {
			w.all = true
		} else {
			w.devices[device] = struct{}{}
		}
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// lost notes that events are missed from now on.
func (t *Tracker) lost() {
	t.mu.Lock()
	t.complete = false
	t.mu.Unlock()
	t.tell("")
}
