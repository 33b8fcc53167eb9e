package presence

import "github.com/prometheus/client_golang/prometheus"

var (
	connectedDesc = prometheus.NewDesc("fleet_presence_connected_devices", "Devices with a connection to NATS.", nil, nil)
	completeDesc  = prometheus.NewDesc("fleet_presence_complete", "Whether the picture of connected devices can be relied on.", nil, nil)
	eventsDesc    = prometheus.NewDesc("fleet_presence_events_total",
		"What happened to devices' connections: connect, disconnect, replaced (by a newer one), kicked (ended by us), flapping (two machines seem to share an id).",
		[]string{"event"}, nil)
)

// event is what happens to a device's connection.
type event int

const (
	eventConnect event = iota
	eventDisconnect
	eventReplaced
	eventKicked
	eventFlapping
	eventCount
)

func (e event) String() string {
	return [eventCount]string{"connect", "disconnect", "replaced", "kicked", "flapping"}[e]
}

func (t *Tracker) count(e event, n int) { t.events[e].Add(uint64(n)) }

// Describe implements prometheus.Collector.
func (t *Tracker) Describe(out chan<- *prometheus.Desc) {
	out <- connectedDesc
	out <- completeDesc
	out <- eventsDesc
}

// Collect implements prometheus.Collector.
func (t *Tracker) Collect(out chan<- prometheus.Metric) {
	complete := 0.0
	if t.Complete() {
		complete = 1
	}
	out <- prometheus.MustNewConstMetric(connectedDesc, prometheus.GaugeValue, float64(t.Count()))
	out <- prometheus.MustNewConstMetric(completeDesc, prometheus.GaugeValue, complete)
	for e := range eventCount {
		out <- prometheus.MustNewConstMetric(eventsDesc, prometheus.CounterValue, float64(t.events[e].Load()), e.String())
	}
}
