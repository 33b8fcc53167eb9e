package broker

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/nationtech/fleetctl/internal/wire"
)

// collectTimeout bounds what a scrape may wait for JetStream.
const collectTimeout = 3 * time.Second

var (
	bucketLabels     = []string{"bucket"}
	bucketPresent    = prometheus.NewDesc("fleet_bucket_present", "Whether the bucket is there.", bucketLabels, nil)
	bucketBytesDesc  = prometheus.NewDesc("fleet_bucket_bytes", "What a bucket holds.", bucketLabels, nil)
	bucketLimit      = prometheus.NewDesc("fleet_bucket_limit_bytes", "What a bucket may hold; one without a limit of its own is bounded by the store.", bucketLabels, nil)
	bucketKeys       = prometheus.NewDesc("fleet_bucket_keys", "Keys in a bucket.", bucketLabels, nil)
	storeBytesDesc   = prometheus.NewDesc("fleet_store_bytes", "What JetStream holds on disk for the fleet.", nil, nil)
	storeLimit       = prometheus.NewDesc("fleet_store_limit_bytes", "What JetStream may hold on disk for the fleet, where a limit is known.", nil, nil)
	natsConnections  = prometheus.NewDesc("fleet_nats_connections", "Connections to the embedded NATS server, of devices and of the server's own parts.", nil, nil)
	natsMessages     = prometheus.NewDesc("fleet_nats_messages_total", "Messages through the embedded NATS server, by direction: in, out.", []string{"direction"}, nil)
	natsMessageBytes = prometheus.NewDesc("fleet_nats_message_bytes_total", "Bytes of messages through the embedded NATS server, by direction: in, out.", []string{"direction"}, nil)
	natsSlow         = prometheus.NewDesc("fleet_nats_slow_consumers_total", "Connections that the embedded NATS server ended because they took what it sent too slowly.", nil, nil)
)

// buckets collects how full the buckets are, asked of JetStream at each scrape.
type buckets struct {
	js    jetstream.JetStream
	limit int64 // of the whole store, in bytes; 0: only the account may have one
}

// BucketCollector gives how full the buckets are. js has to be of a connection
// that may ask (accounts.RoleBuckets).
func BucketCollector(js jetstream.JetStream) prometheus.Collector { return buckets{js: js} }

// Describe implements prometheus.Collector.
func (c buckets) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{bucketPresent, bucketBytesDesc, bucketLimit, bucketKeys, storeBytesDesc, storeLimit} {
		out <- d
	}
}

// Collect implements prometheus.Collector. What JetStream does not answer is
// left out: whether it is there is fleet_bucket_present.
func (c buckets) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), collectTimeout)
	defer cancel()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, b := range wire.Buckets() {
		stream, err := c.js.Stream(ctx, b.Stream())
		if err != nil {
			gauge(bucketPresent, 0, string(b))
			continue
		}
		info := stream.CachedInfo() // of the answer just now
		gauge(bucketPresent, 1, string(b))
		gauge(bucketBytesDesc, float64(info.State.Bytes), string(b))
		gauge(bucketKeys, float64(info.State.Msgs), string(b)) // one message a key
		if info.Config.MaxBytes > 0 {
			gauge(bucketLimit, float64(info.Config.MaxBytes), string(b))
		}
	}
	account, err := c.js.AccountInfo(ctx)
	if err != nil {
		return
	}
	gauge(storeBytesDesc, float64(account.Store))
	switch {
	case account.Limits.MaxStore > 0:
		gauge(storeLimit, float64(account.Limits.MaxStore))
	case c.limit > 0:
		gauge(storeLimit, float64(c.limit))
	}
}

// embedded collects what the server itself counts.
type embedded struct{ srv *server.Server }

// Describe implements prometheus.Collector.
func (c embedded) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{natsConnections, natsMessages, natsMessageBytes, natsSlow} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c embedded) Collect(out chan<- prometheus.Metric) {
	v, err := c.srv.Varz(nil)
	if err != nil {
		out <- prometheus.NewInvalidMetric(natsConnections, err)
		return
	}
	out <- prometheus.MustNewConstMetric(natsConnections, prometheus.GaugeValue, float64(v.Connections))
	for _, of := range []struct {
		direction       string
		messages, bytes int64
	}{{"in", v.InMsgs, v.InBytes}, {"out", v.OutMsgs, v.OutBytes}} {
		out <- prometheus.MustNewConstMetric(natsMessages, prometheus.CounterValue, float64(of.messages), of.direction)
		out <- prometheus.MustNewConstMetric(natsMessageBytes, prometheus.CounterValue, float64(of.bytes), of.direction)
	}
	out <- prometheus.MustNewConstMetric(natsSlow, prometheus.CounterValue, float64(v.SlowConsumers))
}

// Register registers the metrics of the server and its buckets.
func (b *Broker) Register(to prometheus.Registerer) error {
	for _, c := range []prometheus.Collector{embedded{b.srv}, buckets{js: b.buckets, limit: b.srv.JetStreamConfig().MaxStore}} {
		if err := to.Register(c); err != nil {
			return fmt.Errorf("register metrics of NATS: %w", err)
		}
	}
	return nil
}
