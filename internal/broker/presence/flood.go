package presence

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleetctl/internal/wire"
)

// Limits is what one device's connection may send, in the long run, and what it
// may leave unread.
type Limits struct {
	Messages float64       // a second
	Bytes    float64       // a second
	Burst    time.Duration // how much of both at once
	Unread   int64         // bytes that wait for it, twice in a row
	// A device that exceeded them is kept out for Pause, and each time that it
	// does so again for twice as long as before, up to MaxPause. A time as long
	// as MaxPause without a fault is a new beginning.
	Pause, MaxPause time.Duration
	// Every is the time between two looks. Each asks about all connections: a
	// large fleet is looked at less often, by PerConnection for each one.
	Every, PerConnection time.Duration
}

// DefaultLimits is far above what an agent sends: what it streams on behalf of
// people is paced to half of that (internal/commands).
func DefaultLimits() Limits {
	return Limits{
		Messages: 2000, Bytes: 32 << 20, Burst: 4 * time.Second, Unread: 8 << 20,
		Pause: 10 * time.Second, MaxPause: 10 * time.Minute, Every: 2 * time.Second, PerConnection: 1500 * time.Microsecond,
	}
}

// Flood is what a device did too much of.
type Flood struct {
	Device string
	Host   string
	Reason string
	Pause  time.Duration // how long it is kept out
}

// Guard shuts out devices that flood the servers. It is safe for concurrent use.
type Guard struct {
	limits Limits
	now    func() time.Time

	mu     sync.Mutex
	meters map[connKey]*meter
	held   map[string]*penalty
}

// meter is how far a connection is above its limits.
type meter struct {
	at              time.Time
	messages, bytes int64   // sent so far
	overMessages    float64 // what has not run off at the rate that is allowed
	overBytes       float64
	unread          bool // at the last look
}

type penalty struct {
	pause time.Duration
	until time.Time
}

// NewGuard gives a guard that holds nobody yet.
func NewGuard(limits Limits) *Guard {
	return &Guard{limits: limits, now: time.Now, meters: map[connKey]*meter{}, held: map[string]*penalty{}}
}

// Held says that a device may not connect yet. It is for the callout.
func (g *Guard) Held(device string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.held[device]
	return p != nil && g.now().Before(p.until)
}

// Watch looks at the servers' counters until ctx ends, and disconnects who
// exceeds the limits. told hears of each; may be nil.
func (g *Guard) Watch(ctx context.Context, nc *nats.Conn, t *Tracker, log *slog.Logger, told func(Flood)) {
	next := time.NewTimer(g.limits.Every)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		answers, err := g.look(ctx, nc)
		next.Reset(g.limits.untilNext(answers))
		if err != nil {
			if ctx.Err() == nil {
				log.Warn("what devices send cannot be seen", "op", "flood", "error", err)
			}
			continue
		}
		for _, f := range g.judge(answers) {
			log.Warn("device floods and is disconnected", "op", "flood", "device", f.Device, "host", f.Host, "reason", f.Reason, "pause", f.Pause)
			limited, cancel := context.WithTimeout(ctx, kickTimeout)
			if err := t.Disconnect(limited, f.Device); err != nil {
				log.Warn("connection not ended", "op", "flood", "device", f.Device, "error", err)
			}
			cancel()
			if told != nil {
				told(f)
			}
		}
	}
}

// watched is how many connections are looked at in each order. Who floods is
// among the first of one of them, however many there are: what others send in an
// hour, it sends in seconds.
const watched = 128

func (g *Guard) look(ctx context.Context, nc *nats.Conn) ([]connz, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	orders := []string{"bytes_from", "msgs_from", "pending"}
	answers, errs := make([][]connz, len(orders)), make([]error, len(orders))
	var all sync.WaitGroup
	for i, order := range orders {
		all.Go(func() {
			answers[i], errs[i] = ask(ctx, nc, map[string]any{"acc": wire.AccountDevices, "auth": true, "limit": watched, "sort": order})
		})
	}
	all.Wait()
	var out []connz
	for i := range orders {
		if errs[i] != nil {
			return nil, fmt.Errorf("list connections by %s: %w", orders[i], errs[i])
		}
		out = append(out, answers[i]...)
	}
	return out, nil
}

// untilNext is the time until the next look.
func (l Limits) untilNext(answers []connz) time.Duration {
	most := 0
	for _, a := range answers {
		most = max(most, a.Data.Total)
	}
	return max(l.Every, time.Duration(most)*l.PerConnection)
}

// judge reads the meters and gives the devices that are over the limits, which
// are held from now on.
func (g *Guard) judge(answers []connz) []Flood {
	g.mu.Lock()
	defer g.mu.Unlock()
	var floods []Flood
	seen := map[connKey]bool{}
	for _, answer := range answers {
		for _, c := range answer.Data.Connections {
			key := connKey{answer.Server.ID, c.CID}
			if seen[key] || wire.ValidateDeviceID(c.User) != nil {
				continue
			}
			seen[key] = true
			if reason := g.read(key, c, answer.Data.Now); reason != "" {
				floods = append(floods, Flood{Device: c.User, Host: c.IP, Reason: reason, Pause: g.hold(c.User)})
			}
		}
	}
	for key := range g.meters {
		if !seen[key] {
			delete(g.meters, key) // it ended, or others send more
		}
	}
	return floods
}

// read brings a connection's meter up to date, and says what it exceeds. A
// connection that is seen for the first time is judged by all of its life.
func (g *Guard) read(key connKey, c listed, now time.Time) (reason string) {
	m := g.meters[key]
	if m == nil {
		m = &meter{at: c.Start}
		g.meters[key] = m
	}
	since := max(0, now.Sub(m.at).Seconds())
	run := func(over float64, more int64, rate float64) float64 { return max(0, over+float64(more)-rate*since) }
	m.overMessages = run(m.overMessages, c.Messages-m.messages, g.limits.Messages)
	m.overBytes = run(m.overBytes, c.Bytes-m.bytes, g.limits.Bytes)
	m.at, m.messages, m.bytes = now, c.Messages, c.Bytes
	unread := c.Pending > g.limits.Unread
	defer func() { m.unread = unread }()
	burst := g.limits.Burst.Seconds()
	switch {
	case m.overMessages > burst*g.limits.Messages:
		return fmt.Sprintf("sends more than %.0f messages a second", g.limits.Messages)
	case m.overBytes > burst*g.limits.Bytes:
		return fmt.Sprintf("sends more than %.0f bytes a second", g.limits.Bytes)
	case unread && m.unread:
		return fmt.Sprintf("asks for more than %d bytes that it does not read", g.limits.Unread)
	}
	return ""
}

// hold keeps a device out, and says for how long. g.mu is held.
func (g *Guard) hold(device string) time.Duration {
	now := g.now()
	for other, p := range g.held {
		if now.Sub(p.until) > g.limits.MaxPause {
			delete(g.held, other)
		}
	}
	p := g.held[device]
	switch {
	case p == nil:
		p = &penalty{pause: g.limits.Pause}
		g.held[device] = p
	case now.Before(p.until): // another connection of it
		return p.until.Sub(now)
	default:
		p.pause = min(2*p.pause, g.limits.MaxPause)
	}
	p.until = now.Add(p.pause)
	return p.pause
}
