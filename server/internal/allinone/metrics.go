package allinone

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nationtech/fleetctl/server/internal/metrics"
	"github.com/nationtech/fleetctl/server/internal/supervise"
)

// measure registers the metrics of the parts that run by now; those of the
// callout and the API were registered by them.
func (s *server) measure(context.Context) (supervise.Part, error) {
	for _, c := range []prometheus.Collector{s.operator.Collector(), s.presence} {
		if err := s.metrics.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	if err := s.broker.Register(s.metrics); err != nil {
		return nil, err
	}
	if err := metrics.Directory(s.metrics, s.DataDir); err != nil {
		return nil, err
	}
	if err := metrics.Certificate(s.metrics, "ca", func() (time.Time, error) { return s.ca.NotAfter(), nil }); err != nil {
		return nil, err
	}
	for _, cert := range s.certs {
		if err := metrics.Certificate(s.metrics, cert.Name(), func() (time.Time, error) { return cert.Certificate().Leaf.NotAfter, nil }); err != nil {
			return nil, err
		}
	}
	return nil, nil
}
