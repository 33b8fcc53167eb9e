//go:build apiserver

package operator_test

import (
	"context"
	"sync"
	"time"

	"github.com/nationtech/fleetctl/internal/broker/presence"
)

// links are connections that tests make and cut.
type links struct {
	fleet *fleet

	mu       sync.Mutex
	up       map[string]presence.Connection
	unsure   bool
	watchers []func(string)
}

// connected connects or cuts a device, as the tracker hears of it.
func (l *links) connected(device string, up bool) {
	l.mu.Lock()
	if up {
		l.up[device] = presence.Connection{Device: device, Host: "192.0.2.7", Since: time.Now()}
	} else {
		delete(l.up, device)
	}
	l.mu.Unlock()
	l.tell(device)
}

// sure says whether the picture can be relied on.
func (l *links) sure(is bool) {
	l.mu.Lock()
	l.unsure = !is
	l.mu.Unlock()
	l.tell("")
}

func (l *links) tell(device string) {
	l.mu.Lock()
	watchers := l.watchers
	l.mu.Unlock()
	for _, changed := range watchers {
		changed(device)
	}
}

func (l *links) Connection(device string) (presence.Connection, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, ok := l.up[device]
	return c, ok
}

func (l *links) Complete() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.unsure
}

func (l *links) Watch(ctx context.Context, changed func(string)) {
	l.mu.Lock()
	l.watchers = append(l.watchers, changed)
	l.mu.Unlock()
	changed("")
	<-ctx.Done()
}

func (l *links) Disconnect(_ context.Context, device string) error {
	l.fleet.shutOut = append(l.fleet.shutOut, "link of "+device)
	l.connected(device, false)
	return nil
}
