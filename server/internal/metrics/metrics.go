// Package metrics holds what a process of the control plane exports to
// Prometheus, whichever parts run in it: a registry of its own, so that two
// servers in one process do not meet, and the collectors that all parts share.
// What a part measures is in that part's package.
package metrics

import (
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sys/unix"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

// New gives a registry that holds which part of the control plane this is.
func New(part, version string) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "fleet_part_info", Help: "Which part of the control plane this is, and its version.",
		ConstLabels: prometheus.Labels{"part": part, "version": version},
	}, func() float64 { return 1 }))
	return r
}

// Handler serves r and what controller-runtime keeps for the whole process: its
// queues and reconciles, Go and the process itself. What cannot be collected is
// logged and left out.
func Handler(r *prometheus.Registry, log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(prometheus.Gatherers{r, metrics.Registry}, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.With("component", "metrics").Handler(), slog.LevelWarn), ErrorHandling: promhttp.ContinueOnError,
	})
}

// Connection exports whether a connection to NATS is up.
func Connection(to prometheus.Registerer, role string, conn *nats.Conn) error {
	err := to.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "fleet_nats_connected", Help: "Whether this part is connected to NATS.",
		ConstLabels: prometheus.Labels{"role": role},
	}, func() float64 {
		if conn.IsConnected() {
			return 1
		}
		return 0
	}))
	if err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	return nil
}

// Certificate exports when the certificate of a listener, or an authority's,
// ends; asked for at each scrape, for it is renewed while the process runs.
func Certificate(to prometheus.Registerer, name string, notAfter func() (time.Time, error)) error {
	if err := to.Register(&certificate{name: name, notAfter: notAfter}); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	return nil
}

type certificate struct {
	name     string
	notAfter func() (time.Time, error)
}

func (c *certificate) desc() *prometheus.Desc {
	return prometheus.NewDesc("fleet_certificate_expiry_timestamp_seconds", "When a certificate ends.", nil, prometheus.Labels{"certificate": c.name})
}

// Describe implements prometheus.Collector.
func (c *certificate) Describe(out chan<- *prometheus.Desc) { out <- c.desc() }

// Collect implements prometheus.Collector.
func (c *certificate) Collect(out chan<- prometheus.Metric) {
	at, err := c.notAfter()
	if err != nil {
		out <- prometheus.NewInvalidMetric(c.desc(), err)
		return
	}
	out <- prometheus.MustNewConstMetric(c.desc(), prometheus.GaugeValue, float64(at.Unix()))
}

// Directory exports how much room the file system of a directory has.
func Directory(to prometheus.Registerer, path string) error {
	for _, of := range []struct {
		name, help string
		blocks     func(*unix.Statfs_t) uint64
	}{
		{"fleet_data_directory_free_bytes", "What may still be written to the file system of the data directory.", func(s *unix.Statfs_t) uint64 { return s.Bavail }},
		{"fleet_data_directory_size_bytes", "Size of the file system of the data directory.", func(s *unix.Statfs_t) uint64 { return s.Blocks }},
	} {
		err := to.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: of.name, Help: of.help}, func() float64 {
			var s unix.Statfs_t
			if err := unix.Statfs(path, &s); err != nil {
				return 0 // a directory that is gone holds nothing more
			}
			return float64(of.blocks(&s)) * float64(s.Bsize)
		}))
		if err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}
