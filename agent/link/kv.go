package link

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nationtech/fleetctl/internal/wire"
)

// requestTimeout bounds one get or put.
const requestTimeout = 5 * time.Second

// Headers of a direct get (NATS ADR-31) and of a deletion marker in a bucket
// (ADR-8).
const (
	headerStatus      = "Status"
	headerDescription = "Description"
	headerSubject     = "Nats-Subject"
	headerOperation   = "KV-Operation"
	statusNotFound    = "404"
)

// Get asks for the last value of key without a consumer. found is false when
// there is none, or it was deleted.
func (l *Link) Get(ctx context.Context, bucket wire.Bucket, key string) (data []byte, found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	answer, err := l.direct(ctx, bucket, key)
	if err != nil {
		return nil, false, fmt.Errorf("get %s from %s: %w", key, bucket, err)
	}
	switch status := answer.Header.Get(headerStatus); {
	case status == statusNotFound:
		return nil, false, nil
	case status != "":
		return nil, false, fmt.Errorf("get %s from %s: %s %s", key, bucket, status, answer.Header.Get(headerDescription))
	case answer.Header.Get(headerSubject) != bucket.Subject(key):
		return nil, false, fmt.Errorf("get %s from %s: the answer is about %q", key, bucket, answer.Header.Get(headerSubject))
	case answer.Header.Get(headerOperation) != "":
		return nil, false, nil
	}
	return answer.Data, true, nil
}

// Put writes key and waits for JetStream to say that it has it. It sets no
// header at all: a message id would let another's write be taken for a
// duplicate.
func (l *Link) Put(ctx context.Context, bucket wire.Bucket, key string, data []byte) error {
	if limit := int(bucket.MaxValueBytes()); len(data) > limit {
		return fmt.Errorf("put %s into %s: %d bytes; the most is %d", key, bucket, len(data), limit)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	c, done := l.use()
	defer done()
	answer, err := c.RequestWithContext(ctx, bucket.Subject(key), data)
	if err != nil {
		return fmt.Errorf("put %s into %s: %w", key, bucket, err)
	}
	var ack struct {
		Stream string `json:"stream"`
		Error  *struct {
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &ack); err != nil {
		return fmt.Errorf("put %s into %s: read acknowledgement: %w", key, bucket, err)
	}
	if ack.Error != nil {
		return fmt.Errorf("put %s into %s: %s", key, bucket, ack.Error.Description)
	}
	if ack.Stream != bucket.Stream() {
		return fmt.Errorf("put %s into %s: acknowledged by %q", key, bucket, ack.Stream)
	}
	return nil
}

// Send publishes without waiting for anything; while there is no connection it
// fails.
func (l *Link) Send(subject string, data []byte) error {
	c, done := l.use()
	defer done()
	if err := c.Publish(subject, data); err != nil {
		return fmt.Errorf("send on %s: %w", subject, err)
	}
	return nil
}
