package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/wire"
)

// messageOverhead bounds what JetStream's file store adds to a value: record
// header, checksum, the subject with a 63-byte id, and slack for the moment in
// which an old and a new value are both there.
const messageOverhead = 1 << 10

// Sizing is what the buckets are made for.
type Sizing struct {
	Devices  int // the most devices there will be
	Replicas int // 1 on one server, 3 on a cluster; 0 means 1
	// ReportReplicas is for the buckets that devices write; 0 means Replicas.
	// With more than 1, nats-server from 2.14 up to at least 2.15.2 stops such
	// a bucket for good at one write with the header Nats-Expected-Last-Msg-Id,
	// which any device can send (docs/decisions/0008-report-replicas.md).
	ReportReplicas int
}

func (s Sizing) replicas(b wire.Bucket) int {
	if b != wire.BucketDesired && s.ReportReplicas > 0 {
		return s.ReportReplicas
	}
	return max(s.Replicas, 1)
}

// EnsureBuckets makes the buckets of the fleet, or changes those that differ
// from how they have to be. The limits are part of what keeps devices from
// each other: with a bucket too small, one device's write displaces another's.
func EnsureBuckets(ctx context.Context, js jetstream.JetStream, s Sizing) error {
	for _, b := range wire.Buckets() {
		want := bucketConfig(b, s)
		stream, err := js.CreateOrUpdateStream(ctx, want)
		if err != nil {
			err = fmt.Errorf("ensure bucket %s: %w", b, err)
			if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, jetstream.ErrJetStreamNotEnabled) {
				return hint.Wrap(err, "check that JetStream is enabled for account "+wire.AccountFleet)
			}
			return err
		}
		if err := verifyBucket(want, stream.CachedInfo().Config); err != nil {
			return hint.Wrap(fmt.Errorf("ensure bucket %s: %w", b, err),
				"the NATS server is too old or differs in its defaults; use the version that the documentation names")
		}
	}
	return nil
}

// bucketConfig builds the stream by hand: the key-value API would switch on
// roll-up and choose its own duplicate window. What is not set here is off:
// TTLs, counters, schedules, batches.
func bucketConfig(b wire.Bucket, s Sizing) jetstream.StreamConfig {
	cfg := jetstream.StreamConfig{
		Name:              b.Stream(),
		Description:       "fleet: rebuilt from the Kubernetes API when lost",
		Subjects:          []string{b.Subject(">")},
		Storage:           jetstream.FileStorage,
		Retention:         jetstream.LimitsPolicy,
		Replicas:          s.replicas(b),
		MaxMsgsPerSubject: 1,
		MaxMsgs:           -1,
		MaxMsgSize:        b.MaxValueBytes(),
		MaxBytes:          bucketBytes(b, s.Devices),
		MaxConsumers:      -1,
		// A full bucket refuses new writes; it never drops a device's.
		Discard:     jetstream.DiscardNew,
		AllowDirect: true,
		AllowRollup: false,
		DenyDelete:  true,
		// The shortest there is. Values are idempotent, so no writer sends
		// message ids; a guessed one must not drop another's write.
		Duplicates: 100 * time.Millisecond,
	}
	if b == wire.BucketDesired {
		// Only manifests, which have a single token, are republished as hints.
		cfg.RePublish = &jetstream.RePublish{
			Source:      b.Subject("*"),
			Destination: wire.HintSubject("{{wildcard(1)}}"),
			HeadersOnly: true,
		}
	}
	return cfg
}

// bucketBytes is room for every device at its largest. Only the operator
// writes desired-state, at sizes that no one can foresee, so that bucket is
// bounded by the account's storage alone.
func bucketBytes(b wire.Bucket, devices int) int64 {
	if b == wire.BucketDesired {
		return -1
	}
	return int64(max(devices, 1)+64) * (int64(b.MaxValueBytes()) + messageOverhead)
}

// storageBytes is what JetStream has to be allowed for these devices.
func storageBytes(devices int) int64 {
	const desiredPerDevice = 1 << 20
	total := max(int64(devices)*desiredPerDevice, 1<<30)
	for _, b := range wire.Buckets() {
		total += max(bucketBytes(b, devices), 0)
	}
	return total
}

// verifyBucket compares what keeps devices apart with what the server made of
// it: a server that does not know a field leaves it out silently.
func verifyBucket(want, got jetstream.StreamConfig) error {
	var errs []error
	check := func(what string, want, got any) {
		if want != got {
			errs = append(errs, fmt.Errorf("%s is %v, must be %v", what, got, want))
		}
	}
	check("storage", want.Storage, got.Storage)
	check("messages a subject", want.MaxMsgsPerSubject, got.MaxMsgsPerSubject)
	check("message size", want.MaxMsgSize, got.MaxMsgSize)
	check("bytes", want.MaxBytes, got.MaxBytes)
	check("discard", want.Discard, got.Discard)
	check("direct get", want.AllowDirect, got.AllowDirect)
	check("roll-up", want.AllowRollup, got.AllowRollup)
	check("delete denied", want.DenyDelete, got.DenyDelete)
	check("duplicate window", want.Duplicates, got.Duplicates)
	check("replicas", want.Replicas, got.Replicas)
	check("age limit", time.Duration(0), got.MaxAge)
	check("message TTLs", false, got.AllowMsgTTL)
	check("counters", false, got.AllowMsgCounter)
	check("schedules", false, got.AllowMsgSchedules)
	check("atomic batches", false, got.AllowAtomicPublish)
	check("fast batches", false, got.AllowBatchPublish)
	return errors.Join(errs...)
}
