// Package presence knows which devices are connected to the NATS servers, and
// disconnects them: a device has one connection, the newest. It hears of
// connections from the servers' system account, so it sees those of every
// server of a cluster, and asks anew when it may have missed some. Who may
// connect is internal/callout's.
package presence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleetctl/internal/wire"
)

const (
	connectSubject    = "$SYS.ACCOUNT." + wire.AccountDevices + ".CONNECT"
	disconnectSubject = "$SYS.ACCOUNT." + wire.AccountDevices + ".DISCONNECT"
	// eventBacklog holds the events of a fleet that comes back at once.
	eventBacklog = 64 << 10
	startTimeout = 10 * time.Second
	// relistEvery corrects what was missed: a server that died takes its
	// devices with it and says nothing, and a flood of events may overflow.
	relistEvery = time.Minute
	relistRetry = 2 * time.Second
)

// Handover is how long two connections of a device may be there at once: one
// that renews its token opens the next before it closes the last. Of more than
// two the older ones end at once.
const Handover = 10 * time.Second

// Connection is one device's link.
type Connection struct {
	Device string
	Server string // id of the NATS server
	CID    uint64 // of the client on that server
	Host   string // address that it came from
	Since  time.Time
}

// Options of a tracker; the zero value is usable.
type Options struct {
	// Denied says that a device may not be here. It is asked at each connect:
	// a device that the callout let in just before it was revoked is not in
	// the table yet when Disconnect looks. May be nil.
	Denied func(device string) bool
	// Settle is how much later than the callout Denied may know of a device:
	// where the two are in different processes, a device that was let in a
	// moment after its enrolment would be thrown out.
	Settle time.Duration
	// Handover is for tests; 0 means Handover.
	Handover time.Duration
	// Flapping is told when two machines seem to share an id: they throw each
	// other out again and again. May be nil.
	Flapping func(device string)
}

// Tracker follows connections. It is safe for concurrent use.
type Tracker struct {
	nc  *nats.Conn
	log *slog.Logger
	opt Options

	mu       sync.Mutex
	table    table
	complete bool // a listing succeeded since the system account was last lost
	watchers map[*watcher]struct{}

	events [eventCount]atomic.Uint64
}

// Start follows connections until ctx ends. Those that were there before are
// known about a second later.
func Start(ctx context.Context, nc *nats.Conn, log *slog.Logger, opt Options) (*Tracker, error) {
	if opt.Handover == 0 {
		opt.Handover = Handover
	}
	t := &Tracker{nc: nc, log: log, opt: opt, table: newTable(), watchers: map[*watcher]struct{}{}}
	// One channel for both subjects keeps their order.
	events := make(chan *nats.Msg, eventBacklog)
	relist := make(chan struct{}, 1)
	relist <- struct{}{}
	var subs []*nats.Subscription
	for _, subject := range []string{connectSubject, disconnectSubject} {
		sub, err := nc.ChanSubscribe(subject, events)
		if err != nil {
			return nil, fmt.Errorf("follow connections: %w", err)
		}
		subs = append(subs, sub)
	}
	ask := func() {
		select {
		case relist <- struct{}{}:
		default:
		}
	}
	nc.SetDisconnectErrHandler(func(*nats.Conn, error) { t.lost() })
	nc.SetReconnectHandler(func(*nats.Conn) { ask() })
	if err := nc.FlushTimeout(startTimeout); err != nil {
		return nil, fmt.Errorf("follow connections: %w", err)
	}
	context.AfterFunc(ctx, func() {
		for _, sub := range subs {
			_ = sub.Unsubscribe()
		}
	})
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case msg := <-events:
				t.handle(msg)
			}
		}
	}()
	go func() {
		regular := time.NewTicker(relistEvery)
		defer regular.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-regular.C:
			case <-relist:
			}
			if err := t.relist(ctx); err != nil && ctx.Err() == nil {
				log.Warn("connected devices may be out of date", "op", "presence", "error", err)
				time.AfterFunc(relistRetry, ask)
			}
		}
	}()
	return t, nil
}

// Connection gives the device's link; ok is false when it has none.
func (t *Tracker) Connection(device string) (c Connection, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.table.newest(device)
}

// Count is how many devices are connected.
func (t *Tracker) Count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.table.devices)
}

// Disconnect ends every link of a device. To keep it out, make the callout
// deny it first.
func (t *Tracker) Disconnect(ctx context.Context, device string) error {
	t.mu.Lock()
	conns := t.table.of(device)
	t.mu.Unlock()
	var errs []error
	for _, c := range conns {
		errs = append(errs, t.kick(ctx, c))
	}
	return errors.Join(errs...)
}

// advisory is the part of nats-server's connect and disconnect events that
// matters here.
type advisory struct {
	Server struct {
		ID string `json:"id"`
	} `json:"server"`
	Client struct {
		ID    uint64    `json:"id"`
		User  string    `json:"user"`
		Host  string    `json:"host"`
		Start time.Time `json:"start"`
	} `json:"client"`
}

func (t *Tracker) handle(msg *nats.Msg) {
	var a advisory
	if err := json.Unmarshal(msg.Data, &a); err != nil || wire.ValidateDeviceID(a.Client.User) != nil {
		t.log.Warn("connection event ignored", "op", "presence", "user", a.Client.User, "error", err)
		return
	}
	c := Connection{Device: a.Client.User, Server: a.Server.ID, CID: a.Client.ID, Host: a.Client.Host, Since: a.Client.Start}
	if msg.Subject == disconnectSubject {
		t.mu.Lock()
		t.table.remove(c)
		t.mu.Unlock()
		t.count(eventDisconnect, 1)
		t.tell(c.Device)
		return
	}
	t.connected(c)
}

// connected records a link and ends the older ones of the same device.
func (t *Tracker) connected(c Connection) {
	t.mu.Lock()
	older := t.table.add(c)
	flapping := len(older) > 0 && t.table.replaced(c.Device, time.Now())
	t.mu.Unlock()
	t.count(eventConnect, 1)
	t.count(eventReplaced, len(older))
	t.tell(c.Device)
	for i, o := range older {
		if i == 0 {
			time.AfterFunc(t.opt.Handover, func() { t.endReplaced(o) })
		} else {
			go t.endReplaced(o)
		}
	}
	if t.opt.Denied != nil && t.opt.Denied(c.Device) {
		time.AfterFunc(t.opt.Settle, func() { t.endDenied(c) })
	}
	if flapping {
		t.count(eventFlapping, 1)
		t.log.Warn("two machines seem to share a device id", "op", "presence", "device", c.Device, "host", c.Host)
		if t.opt.Flapping != nil {
			t.opt.Flapping(c.Device)
		}
	}
}

// endReplaced ends a link that is still there beside a newer one.
func (t *Tracker) endReplaced(o Connection) {
	t.mu.Lock()
	newest, there := t.table.replaces(o)
	t.mu.Unlock()
	if !there {
		return
	}
	t.log.Info("connection replaced by a newer one", "op", "presence", "device", o.Device, "host", o.Host, "newer", newest.Host)
	t.end(o)
}

// endDenied ends the link of a device that still may not be here.
func (t *Tracker) endDenied(c Connection) {
	if !t.opt.Denied(c.Device) {
		return
	}
	t.log.Info("connection of a revoked device ended", "op", "presence", "device", c.Device, "host", c.Host)
	t.end(c)
}

// end kicks a link that nobody waits for.
func (t *Tracker) end(c Connection) {
	ctx, cancel := context.WithTimeout(context.Background(), kickTimeout)
	defer cancel()
	if err := t.kick(ctx, c); err != nil {
		t.log.Warn("connection not ended", "op", "presence", "device", c.Device, "error", err)
	}
}
