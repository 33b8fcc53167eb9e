package link

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// renewEvery is how often a link whose credential is about to end looks
	// for a fresh one, while the issuer does not answer.
	renewEvery = time.Minute
	// handOver bounds how long what the old connection has received may take
	// to be handled. The server gives a device some time for it
	// (presence.Handover).
	handOver = 2 * time.Second
)

// renew connects anew before the server ends the link together with the
// credential that it was made with: at a moment when the next one is there
// already, and spread over the fleet. When there is none the link stays. The
// new connection takes the place of the old one without a gap, so that nothing
// which goes on for long (logs that are followed, a shell, a forwarded port)
// notices.
func (l *Link) renew(ctx context.Context) {
	for {
		old, done := l.use()
		done()
		wait := renewEvery
		if due := old.dial.current.Load().Refresh; !due.IsZero() {
			wait = max(time.Second, min(wait, time.Until(due)))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		now := old.dial.current.Load()
		if !old.IsConnected() || now.Refresh.IsZero() || time.Now().Before(now.Refresh) {
			continue
		}
		fresh, err := l.cfg.Source.Credential(ctx)
		if err != nil || !fresh.Expires.After(now.Expires) {
			continue
		}
		if err := l.replace(ctx, old); err != nil {
			l.cfg.Log.Warn("connection not renewed yet; the old one holds", "op", "renew", "error", err, "until", now.Expires)
		}
	}
}

// replace puts a new connection in the place of old.
func (l *Link) replace(ctx context.Context, old *conn) error {
	// To the same server, which then has all from the one connection before it
	// has anything from the other.
	same := old.ConnectedUrl()
	urls := slices.DeleteFunc(slices.Clone(l.cfg.URLs), func(u string) bool { return u == same })
	if same != "" {
		urls = slices.Insert(urls, 0, same)
	}
	next, err := l.connect(ctx, urls, false)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := make(chan struct{})
	if err := next.take(l.subscriptions, taken); err != nil {
		next.dial.retired.Store(true)
		next.Close()
		return err
	}
	// From here on both connections hear everything. What only the old one
	// heard is handled before what the new one hears.
	old.settle()
	l.gate.Lock()
	_ = old.FlushTimeout(handOver) // one that is broken has nothing more to send
	l.conn = next
	l.gate.Unlock()
	close(taken)
	old.dial.retired.Store(true)
	old.Close()
	l.cfg.Log.Debug("connection renewed", "op", "renew", "server", next.ConnectedUrlRedacted())
	l.cfg.Connected() // it may have been away for a moment while it was nobody's
	return nil
}

// take subscribes to all of these; they are handled from the moment that ready
// is closed.
func (c *conn) take(all []subscription, ready <-chan struct{}) error {
	for _, s := range all {
		sub, err := c.Subscribe(s.subject, func(m *nats.Msg) {
			<-ready
			s.handle(m)
		})
		if err != nil {
			return fmt.Errorf("subscribe to %s: %w", s.subject, err)
		}
		c.subs = append(c.subs, sub)
	}
	return c.FlushTimeout(dialTimeout) // the server has them
}

// settle ends the subscriptions once what they received is handled.
func (c *conn) settle() {
	deadline := time.After(handOver)
	var closed []<-chan nats.SubStatus
	for _, sub := range c.subs {
		status := sub.StatusChanged(nats.SubscriptionClosed)
		if sub.Drain() == nil {
			closed = append(closed, status)
		}
	}
	for _, done := range closed {
		select {
		case <-done:
		case <-deadline:
			return
		}
	}
}
