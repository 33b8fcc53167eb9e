package callout

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count every decision, also those that the log leaves out.
type metrics struct {
	decisions *prometheus.CounterVec
	seconds   prometheus.Histogram
	dropped   prometheus.Counter
}

func newMetrics(to prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fleet_callout_decisions_total",
			Help: "Who wanted to connect to NATS: allowed (by role) or refused (by reason).",
		}, []string{"outcome", "reason"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "fleet_callout_decision_seconds",
			Help:    "From a request's arrival to its answer, waiting included.",
			Buckets: prometheus.ExponentialBuckets(0.00025, 2, 16),
		}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fleet_callout_unreadable_total",
			Help: "Authorization requests that could not be taken, decrypted or answered.",
		}),
	}
	if to == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.decisions, m.seconds, m.dropped} {
		if err := to.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) decided(d decision, refusal error, took time.Duration) {
	m.seconds.Observe(took.Seconds())
	if refusal != nil {
		m.decisions.WithLabelValues("refused", reasonOf(refusal)).Inc()
		return
	}
	how := d.Role
	if how == "" {
		how = "password"
	}
	m.decisions.WithLabelValues("allowed", how).Inc()
}
