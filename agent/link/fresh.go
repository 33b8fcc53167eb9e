package link

import (
	"context"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleetctl/internal/wire"
)

const headerSequence = "Nats-Sequence" // of a direct get, and of a republished message (NATS ADR-28)

// In a cluster any server that has a copy of the bucket answers a direct get,
// and a hint can be faster than the copies: asked at once, another server may
// still give the manifest of before. The wait doubles until it is the one that
// the hint told of.
const (
	firstCatchUp = 20 * time.Millisecond
	catchUps     = 7 // 2.5 s in all; a copy is behind for milliseconds
)

// noteHint remembers how new the manifest is that a hint tells of. Nothing
// else of a hint is used, and that it may lie costs a few requests.
func (l *Link) noteHint(m *nats.Msg) {
	sequence, err := strconv.ParseUint(m.Header.Get(headerSequence), 10, 64)
	if err != nil {
		return
	}
	for {
		known := l.hinted.Load()
		if sequence <= known || l.hinted.CompareAndSwap(known, sequence) {
			return
		}
	}
}

// direct makes a direct get; of the manifest, until it is not older than what
// was hinted.
func (l *Link) direct(ctx context.Context, bucket wire.Bucket, key string) (*nats.Msg, error) {
	hinted := uint64(0)
	if bucket == wire.BucketDesired && key == wire.ManifestKey(l.device) {
		hinted = l.hinted.Load()
	}
	for wait, tries := firstCatchUp, 0; ; wait, tries = 2*wait, tries+1 {
		answer, err := l.request(ctx, bucket.DirectGetSubject(key))
		if err != nil || sequenceOf(answer) >= hinted {
			return answer, err
		}
		if tries == catchUps {
			// Taken as it is: the bucket was made anew, or the hint was a lie.
			l.hinted.CompareAndSwap(hinted, 0)
			return answer, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
	}
}

func (l *Link) request(ctx context.Context, subject string) (*nats.Msg, error) {
	c, done := l.use()
	defer done()
	return c.RequestWithContext(ctx, subject, nil)
}

// sequenceOf is 0 for an answer without a value. The server adds its headers
// behind those of the stored message, so the last one counts.
func sequenceOf(answer *nats.Msg) uint64 {
	values := answer.Header.Values(headerSequence)
	if len(values) == 0 {
		return 0
	}
	sequence, err := strconv.ParseUint(values[len(values)-1], 10, 64)
	if err != nil {
		return 0
	}
	return sequence
}
