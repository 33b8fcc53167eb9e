// Package monitoring makes what a monitoring system needs for a fleet from one
// description: a dashboard for Grafana and alerts for Prometheus. Which metrics
// there are is decided where they are measured; a test scrapes a running server
// and compares.
package monitoring

import (
	"encoding/json"
	"fmt"
)

//go:generate go run ./gen ../../docs/monitoring

// grafanaSchema is the version of the dashboard's format that is written, of
// Grafana 10; later ones migrate it when they load it.
const grafanaSchema = 39

// DashboardUID is the same in every Grafana, so that links to it work.
const DashboardUID = "fleet"

const (
	gridWidth   = 24
	statHeight  = 4
	graphHeight = 8
	statWidth   = 4
	graphWidth  = 8
)

// panel is one of the dashboard.
type panel struct {
	title, help string
	stat        bool   // one figure instead of a graph
	unit        string // Grafana's name of it; "" for a plain number
	stacked     bool
	// bad is the value from which on a single figure is red; 0: it never is.
	bad     float64
	queries []query
}

type query struct {
	expr   string
	legend string // "" for the figure's labels
}

type row struct {
	title  string
	panels []panel
}

// rows are the dashboard. Queries fit fleet-server all as well as several
// processes of each part: of operators only the one that leads exports the
// fleet, of trackers each sees all.
func rows() []row {
	return []row{
		{"Fleet", []panel{
			{title: "Devices", stat: true, queries: []query{{`sum(fleet_operator_devices)`, ""}}},
			{title: "Ready", stat: true, help: "Let in, connected, and giving signs of life.",
				queries: []query{{`sum(fleet_operator_device_conditions{condition="Ready",status="True"})`, ""}}},
			{title: "Silent or disconnected", stat: true, bad: 1,
				queries: []query{{`sum(fleet_operator_device_conditions{condition="Ready",reason=~"Disconnected|HeartbeatMissed"}) or vector(0)`, ""}}},
			{title: "Not up to date", stat: true, help: "Devices that do not run what they should yet, or cannot.",
				queries: []query{{`sum(fleet_operator_device_conditions{condition="UpToDate",status="False"}) or vector(0)`, ""}}},
			{title: "Deployments", stat: true, queries: []query{{`sum(fleet_operator_deployments)`, ""}}},
			{title: "Degraded deployments", stat: true, bad: 1,
				queries: []query{{`sum(fleet_operator_deployment_condition{condition="Degraded"}) or vector(0)`, ""}}},
			{title: "Devices by sign of life", stacked: true,
				queries: []query{{`sum by (reason) (fleet_operator_device_conditions{condition="Ready"})`, "{{reason}}"}}},
			{title: "Devices by progress", stacked: true,
				queries: []query{{`sum by (reason) (fleet_operator_device_conditions{condition="UpToDate"})`, "{{reason}}"}}},
			{title: "Deployments on devices, by outcome", stacked: true,
				queries: []query{{`sum by (outcome) (fleet_operator_deployment_devices)`, "{{outcome}}"}}},
			{title: "Deployments that fail most",
				queries: []query{{`topk(10, fleet_operator_deployment_devices{outcome="failed"} > 0)`, "{{deployment_namespace}}/{{deployment}}"}}},
			{title: "Rollouts by phase", stacked: true,
				queries: []query{{`count by (phase) (fleet_operator_deployment_rollout_phase)`, "{{phase}}"}}},
			{title: "Status writes that wait their turn", queries: []query{{`sum(fleet_operator_patient_devices)`, "devices"}}},
		}},
		{"Connections", []panel{
			{title: "Connected devices", queries: []query{{`max(fleet_presence_connected_devices)`, "connected"}}},
			{title: "Connects and disconnects a second",
				queries: []query{{`max by (event) (rate(fleet_presence_events_total[5m]))`, "{{event}}"}}},
			{title: "Decisions of the callout a second", help: "Who wanted to connect to NATS: allowed by role, refused by reason.",
				queries: []query{{`sum by (outcome, reason) (rate(fleet_callout_decisions_total[5m]))`, "{{outcome}}: {{reason}}"}}},
			{title: "Time for a decision, 95th percentile", unit: "s",
				queries: []query{{`histogram_quantile(0.95, sum by (le) (rate(fleet_callout_decision_seconds_bucket[5m])))`, "p95"}}},
		}},
		{"Store", []panel{
			{title: "How full the buckets are", unit: "percentunit", help: "A full bucket refuses what devices report.",
				queries: []query{{`max by (bucket) (fleet_bucket_bytes / fleet_bucket_limit_bytes)`, "{{bucket}}"},
					{`max(fleet_store_bytes / fleet_store_limit_bytes)`, "all of JetStream"}}},
			{title: "Keys", queries: []query{{`max by (bucket) (fleet_bucket_keys)`, "{{bucket}}"}}},
			{title: "Reports a second", queries: []query{{`sum by (bucket) (rate(fleet_operator_reports_total[5m]))`, "{{bucket}}"}}},
			{title: "Writes of desired state a second",
				queries: []query{{`sum by (what, outcome) (rate(fleet_operator_store_writes_total[5m]))`, "{{what}}, {{outcome}}"}}},
		}},
		{"API and pages", []panel{
			{title: "Requests a second, by status", stacked: true,
				queries: []query{{`sum by (code) (rate(fleet_api_requests_total[5m]))`, "{{code}}"}}},
			{title: "Time to the first byte, 95th percentile", unit: "s",
				queries: []query{{`topk(10, histogram_quantile(0.95, sum by (le, route) (rate(fleet_api_first_byte_seconds_bucket[5m]))))`, "{{route}}"}}},
			{title: "Open logs, shells and ports", queries: []query{{`sum(fleet_api_streams_open)`, "streams"},
				{`sum(fleet_api_requests_in_flight)`, "all requests"}}},
		}},
		{"Processes", []panel{
			{title: "Memory", unit: "bytes",
				queries: []query{{`process_resident_memory_bytes * on (instance) group_left (part) fleet_part_info`, "{{part}} {{instance}}"}}},
			{title: "CPU", help: "Cores in use.",
				queries: []query{{`rate(process_cpu_seconds_total[5m]) * on (instance) group_left (part) fleet_part_info`, "{{part}} {{instance}}"}}},
			{title: "Errors of the operator's controllers a second",
				queries: []query{{`sum by (controller) (rate(controller_runtime_reconcile_errors_total[5m]))`, "{{controller}}"}}},
			{title: "Work that waits in the operator", queries: []query{{`sum by (name) (workqueue_depth)`, "{{name}}"}}},
			{title: "Certificates end in", unit: "s",
				queries: []query{{`min by (certificate) (fleet_certificate_expiry_timestamp_seconds - time())`, "{{certificate}}"}}},
			{title: "Room on the data directory's disk", unit: "percentunit",
				queries: []query{{`min(fleet_data_directory_free_bytes / fleet_data_directory_size_bytes)`, "free"}}},
		}},
	}
}

// Dashboard is the JSON of a Grafana dashboard, to be imported or provisioned.
// It asks for the Prometheus data source that it uses.
func Dashboard() ([]byte, error) {
	var panels []any
	id, y := 0, 0
	next := func() int { id++; return id }
	for _, r := range rows() {
		panels = append(panels, map[string]any{"id": next(), "type": "row", "title": r.title, "collapsed": false, "panels": []any{}, "gridPos": grid(gridWidth, 1, 0, y)})
		y++
		x, height := 0, 0
		for _, p := range r.panels {
			w, h := graphWidth, graphHeight
			if p.stat {
				w, h = statWidth, statHeight
			}
			if x+w > gridWidth || height != 0 && h != height {
				x, y = 0, y+height
			}
			height = h
			panels = append(panels, p.json(next(), grid(w, h, x, y)))
			x += w
		}
		y += height
	}
	out, err := json.MarshalIndent(map[string]any{
		"uid": DashboardUID, "title": "Fleet", "tags": []string{"fleet"}, "schemaVersion": grafanaSchema, "editable": true,
		"refresh": "30s", "time": map[string]string{"from": "now-3h", "to": "now"}, "timezone": "browser",
		"templating": map[string]any{"list": []any{map[string]any{
			"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": map[string]any{}, "hide": 0,
		}}},
		"annotations": map[string]any{"list": []any{}},
		"panels":      panels,
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode dashboard: %w", err)
	}
	return append(out, '\n'), nil
}

func grid(w, h, x, y int) map[string]int { return map[string]int{"w": w, "h": h, "x": x, "y": y} }

func (p *panel) json(id int, position map[string]int) map[string]any {
	source := map[string]string{"type": "prometheus", "uid": "${datasource}"}
	var targets []any
	for i, q := range p.queries {
		target := map[string]any{"refId": string(rune('A' + i)), "datasource": source, "expr": q.expr, "legendFormat": q.legend}
		if q.legend == "" {
			target["legendFormat"] = "__auto"
		}
		if p.stat {
			target["instant"] = true
		}
		targets = append(targets, target)
	}
	defaults := map[string]any{"min": 0}
	if p.unit != "" {
		defaults["unit"] = p.unit
	}
	out := map[string]any{"id": id, "title": p.title, "datasource": source, "targets": targets, "gridPos": position,
		"fieldConfig": map[string]any{"defaults": defaults, "overrides": []any{}}}
	if p.help != "" {
		out["description"] = p.help
	}
	if p.stat {
		steps := []any{map[string]any{"color": "green", "value": nil}}
		if p.bad > 0 {
			steps = append(steps, map[string]any{"color": "red", "value": p.bad})
		}
		out["type"] = "stat"
		defaults["thresholds"] = map[string]any{"mode": "absolute", "steps": steps}
		out["options"] = map[string]any{"reduceOptions": map[string]any{"calcs": []string{"lastNotNull"}, "fields": "", "values": false}, "colorMode": "value", "graphMode": "none"}
		return out
	}
	custom := map[string]any{"lineWidth": 1, "fillOpacity": 10, "showPoints": "never"}
	if p.stacked {
		custom["stacking"] = map[string]any{"mode": "normal"}
		custom["fillOpacity"] = 40
	}
	defaults["custom"] = custom
	out["type"] = "timeseries"
	out["options"] = map[string]any{"legend": map[string]any{"displayMode": "list", "placement": "bottom"}, "tooltip": map[string]any{"mode": "multi"}}
	return out
}
