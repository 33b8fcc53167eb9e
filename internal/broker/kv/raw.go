package kv

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/nationtech/fleetctl/internal/wire"
)

// Devices choose the headers of what they store, and the client library takes
// a stored "Status" header for JetStream's own: an empty report with "Status:
// 100" would break every watch of its bucket for good. So reports are read
// here without the library's help, and JetStream's own messages are told apart
// by what a device cannot set: the reply subject, and headers that the server
// adds itself.
const (
	statusHeader    = "Status"
	operationHeader = "KV-Operation"
	sequenceHeader  = "Nats-Sequence"
	timeHeader      = "Nats-Time-Stamp"
	lastHeader      = "Nats-Last-Consumer"
	stalledHeader   = "Nats-Consumer-Stalled"
	flowPrefix      = "$JS.FC."
)

const (
	heartbeat = 2 * time.Second // of a consumer that has nothing to say
	// silence is when a consumer is taken for gone, as after its bucket was
	// deleted or its server restarted.
	silence      = 3 * heartbeat
	abandonAfter = time.Minute // when the server drops a consumer that we left
	backlog      = 16 << 10    // messages; flow control keeps below
)

var (
	errGap    = errors.New("messages were lost")
	errSilent = errors.New("the consumer is gone")
)

// request asks and gives the first answer as it came.
func (s *Store) request(ctx context.Context, subject string) (*nats.Msg, error) {
	answers := make(chan *nats.Msg, 1)
	sub, err := s.nc.ChanSubscribe(s.nc.NewInbox(), answers)
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := s.nc.PublishRequest(subject, sub.Subject, nil); err != nil {
		return nil, err
	}
	select {
	case msg := <-answers:
		return msg, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// parseValue reads the headers that a direct get adds; stored is false when
// the answer is no stored message. The server adds its headers behind those
// of the message, so the last one counts.
func parseValue(msg *nats.Msg) (v Value, stored bool, err error) {
	sequence := last(msg.Header, sequenceHeader)
	if sequence == "" {
		return Value{}, false, nil
	}
	v.Data = msg.Data
	if v.Revision, err = strconv.ParseUint(sequence, 10, 64); err != nil {
		return Value{}, false, fmt.Errorf("direct get answered with a bad sequence: %w", err)
	}
	if v.At, err = time.Parse(time.RFC3339Nano, last(msg.Header, timeHeader)); err != nil {
		return Value{}, false, fmt.Errorf("direct get answered with a bad time: %w", err)
	}
	return v, true, nil
}

func last(h nats.Header, key string) string {
	values := h.Values(key)
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// follower is one ephemeral consumer that gives a bucket's last values, then
// each change.
type follower struct {
	s        *Store
	stream   string
	consumer jetstream.PushConsumer
	sub      *nats.Subscription
	messages chan *nats.Msg
}

func follow(ctx context.Context, s *Store, b wire.Bucket) (*follower, error) {
	f := &follower{s: s, stream: b.Stream(), messages: make(chan *nats.Msg, backlog)}
	var err error
	if f.sub, err = s.nc.ChanSubscribe(s.nc.NewInbox(), f.messages); err != nil {
		return nil, err
	}
	f.consumer, err = s.js.CreatePushConsumer(ctx, f.stream, jetstream.ConsumerConfig{
		DeliverSubject:    f.sub.Subject,
		DeliverPolicy:     jetstream.DeliverLastPerSubjectPolicy,
		FilterSubject:     b.Subject(">"),
		AckPolicy:         jetstream.AckNonePolicy,
		MaxDeliver:        1,
		FlowControl:       true,
		IdleHeartbeat:     heartbeat,
		InactiveThreshold: abandonAfter,
		MemoryStorage:     true,
		Replicas:          1,
	})
	if err != nil {
		return nil, errors.Join(unavailable(fmt.Errorf("watch %s: %w", b, err)), f.sub.Unsubscribe())
	}
	return f, nil
}

// run gives messages until ctx ends or the watch breaks.
func (f *follower) run(ctx context.Context, give func(*nats.Msg, *nats.MsgMetadata), synced func()) error {
	defer f.stop()
	waiting := f.consumer.CachedInfo().NumPending > 0
	if !waiting {
		synced()
	}
	alive := time.NewTimer(silence)
	defer alive.Stop()
	var seen uint64 // the consumer's sequence
	for {
		var msg *nats.Msg
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-alive.C:
			return errSilent
		case msg = <-f.messages:
			alive.Reset(silence)
		}
		if control, err := f.control(msg, seen); control || err != nil {
			if err != nil {
				return err
			}
			continue
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("message without a place in the stream: %w", err)
		}
		if seen++; meta.Sequence.Consumer != seen {
			return errGap
		}
		give(msg, meta)
		if waiting && meta.NumPending == 0 {
			waiting = false
			synced()
		}
	}
}

// control handles what JetStream says itself: a stored message always has an
// acknowledgement subject as its reply, whatever its headers claim.
func (f *follower) control(msg *nats.Msg, seen uint64) (bool, error) {
	switch {
	case strings.HasPrefix(msg.Reply, flowPrefix):
		return true, msg.Respond(nil)
	case msg.Reply != "":
		return false, nil
	}
	if stalled := msg.Header.Get(stalledHeader); stalled != "" {
		if err := f.s.nc.Publish(stalled, nil); err != nil {
			return true, err
		}
	}
	if at := msg.Header.Get(lastHeader); at != "" && at != strconv.FormatUint(seen, 10) {
		return true, errGap
	}
	return true, nil
}

// stop leaves nothing on the server; what cannot be removed now, the server
// drops after abandonAfter.
func (f *follower) stop() {
	_ = f.sub.Unsubscribe()
	ctx, cancel := context.WithTimeout(context.Background(), heartbeat)
	defer cancel()
	_ = f.s.js.DeleteConsumer(ctx, f.stream, f.consumer.CachedInfo().Name)
}
