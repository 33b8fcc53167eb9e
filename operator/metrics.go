package operator

import (
	"context"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// collectTimeout bounds what a scrape may wait for the cache.
const collectTimeout = 5 * time.Second

// counters are what happens, as opposed to how things are.
type counters struct {
	reports *prometheus.CounterVec
	writes  *prometheus.CounterVec
}

func newCounters() *counters {
	return &counters{
		reports: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fleet_operator_reports_total",
			Help: "Reports of devices that arrived, by bucket: device-state, device-info, device-heartbeat.",
		}, []string{"bucket"}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fleet_operator_store_writes_total",
			Help: "Writes to the bucket desired-state, by what was written (state, manifest, removal) and outcome (ok, error).",
		}, []string{"what", "outcome"}),
	}
}

// countedStore counts what is written.
type countedStore struct {
	Store
	writes *prometheus.CounterVec
}

func (s countedStore) count(what string, err error) error {
	outcome := "ok"
	if err != nil {
		outcome = "error"
	}
	s.writes.WithLabelValues(what, outcome).Inc()
	return err
}

// PutManifest implements DesiredStore.
func (s countedStore) PutManifest(ctx context.Context, device string, sealed []byte, after uint64) (uint64, error) {
	revision, err := s.Store.PutManifest(ctx, device, sealed, after)
	return revision, s.count("manifest", err)
}

// PutDesired implements DesiredStore.
func (s countedStore) PutDesired(ctx context.Context, device, deployment string, data []byte, after uint64) (uint64, error) {
	revision, err := s.Store.PutDesired(ctx, device, deployment, data, after)
	return revision, s.count("state", err)
}

// Delete implements DesiredStore.
func (s countedStore) Delete(ctx context.Context, device, deployment string, revision uint64) error {
	return s.count("removal", s.Store.Delete(ctx, device, deployment, revision))
}

// Labels of a Deployment. One called namespace would be that of the scraped pod.
var deploymentLabels = []string{"deployment_namespace", "deployment"}

func fleetDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("fleet_operator_"+name, help, labels, nil)
}

var (
	leadingDesc  = fleetDesc("leading", "Whether this operator is the one that writes.")
	completeDesc = fleetDesc("picture_complete", "Whether this operator leads and knows the whole fleet; without that it exports nothing about it.")
	devicesDesc  = fleetDesc("devices", "Devices in the Kubernetes API.")
	conditionOf  = fleetDesc("device_conditions", "Devices by a condition of their status.", "condition", "status", "reason")
	deploysDesc  = fleetDesc("deployments", "Deployments in the Kubernetes API.")
	outcomesDesc = fleetDesc("deployment_devices", "Devices that a Deployment matches, by outcome: succeeded, failed, pending.",
		slices.Concat(deploymentLabels, []string{"outcome"})...)
	deployDesc = fleetDesc("deployment_condition", "Conditions of a Deployment's status: 1 for True, 0 for False.",
		slices.Concat(deploymentLabels, []string{"condition", "reason"})...)
	rolloutDesc = fleetDesc("deployment_rollout_phase", "Phase of a Deployment's rollout: 1 for the one that it is in.",
		slices.Concat(deploymentLabels, []string{"phase"})...)
	queueDesc = fleetDesc("patient_devices", "Devices whose status changed and waits its turn to be written.")
)

// Collector gives the operator's metrics: how the fleet is, by the statuses in
// the Kubernetes API as this operator's cache has them, and what it does. One
// that stands by exports nothing of the fleet, so that sums over several
// operators are right.
func (op *Operator) Collector() prometheus.Collector { return collector{op} }

type collector struct{ op *Operator }

// Describe implements prometheus.Collector.
func (c collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{leadingDesc, completeDesc, devicesDesc, conditionOf, deploysDesc, outcomesDesc, deployDesc, rolloutDesc, queueDesc} {
		out <- d
	}
	c.op.core.counters.reports.Describe(out)
	c.op.core.counters.writes.Describe(out)
}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	leading := false
	select {
	case <-c.op.Elected():
		leading = true
	default:
	}
	complete := leading && c.op.core.isLoaded()
	out <- gauge(leadingDesc, truth(leading))
	out <- gauge(completeDesc, truth(complete))
	c.op.core.counters.reports.Collect(out)
	c.op.core.counters.writes.Collect(out)
	if !complete {
		return
	}
	out <- gauge(queueDesc, float64(c.op.core.patient.len()))
	ctx, cancel := context.WithTimeout(context.Background(), collectTimeout)
	defer cancel()
	c.devices(ctx, out)
	c.deployments(ctx, out)
}

func (c collector) devices(ctx context.Context, out chan<- prometheus.Metric) {
	var list v1alpha1.DeviceList
	if err := c.op.core.client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		out <- prometheus.NewInvalidMetric(devicesDesc, err)
		return
	}
	out <- gauge(devicesDesc, float64(len(list.Items)))
	type key struct{ condition, status, reason string }
	counts := map[key]int{
		// There also when no device is so: an alert compares them.
		{v1alpha1.ConditionReady, string(metav1.ConditionTrue), v1alpha1.ReasonHeartbeat}:     0,
		{v1alpha1.ConditionConnected, string(metav1.ConditionTrue), v1alpha1.ReasonConnected}: 0,
		{v1alpha1.ConditionUpToDate, string(metav1.ConditionTrue), v1alpha1.ReasonUpToDate}:   0,
	}
	for i := range list.Items {
		for j := range list.Items[i].Status.Conditions {
			condition := &list.Items[i].Status.Conditions[j]
			counts[key{condition.Type, string(condition.Status), condition.Reason}]++
		}
	}
	for k, n := range counts {
		out <- gauge(conditionOf, float64(n), k.condition, k.status, k.reason)
	}
}

func (c collector) deployments(ctx context.Context, out chan<- prometheus.Metric) {
	var list v1alpha1.DeploymentList
	if err := c.op.core.client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		out <- prometheus.NewInvalidMetric(deploysDesc, err)
		return
	}
	out <- gauge(deploysDesc, float64(len(list.Items)))
	for i := range list.Items {
		d := &list.Items[i]
		of := &d.Status.Aggregate
		for outcome, n := range map[string]int32{"succeeded": of.Succeeded, "failed": of.Failed, "pending": of.Pending} {
			out <- gauge(outcomesDesc, float64(n), d.Namespace, d.Name, outcome)
		}
		for j := range d.Status.Conditions {
			condition := &d.Status.Conditions[j]
			out <- gauge(deployDesc, truth(condition.Status == metav1.ConditionTrue), d.Namespace, d.Name, condition.Type, condition.Reason)
		}
		if d.Status.Rollout != nil {
			out <- gauge(rolloutDesc, 1, d.Namespace, d.Name, string(d.Status.Rollout.Phase))
		}
	}
}

func gauge(d *prometheus.Desc, v float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
