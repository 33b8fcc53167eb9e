package dashboard

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	k8slabels "k8s.io/apimachinery/pkg/labels"

	"github.com/nationtech/fleetctl/internal/dashboard/fleet"
	"github.com/nationtech/fleetctl/internal/dashboard/session"
	"github.com/nationtech/fleetctl/internal/identity/role"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// schemaVersion is that of every export.
const schemaVersion = 1

// table is a table in other forms than HTML.
type table struct {
	name    string // of the list in JSON, and of the file
	rows    any    // a slice
	columns []string
	cells   func(yield func([]string))
}

// exports serves every table as JSON and CSV.
func (d *Dashboard) exports(mux *http.ServeMux) {
	for path, of := range map[string]struct {
		wants string
		table func(*http.Request, *session.Session, *fleet.Snapshot) (table, error)
	}{
		"/devices":                  {role.Viewer, devicesTable},
		"/problems":                 {role.Viewer, problemsTable},
		"/deployments":              {role.Viewer, deploymentsTable},
		"/audit":                    {role.Admin, d.auditTable},
		"/joins":                    {role.Admin, d.joinsTable},
		"/devices/{id}/deployments": {role.Viewer, d.worksTable},
		"/devices/{id}/history":     {role.Viewer, d.historyTable},
		"/deployments/{namespace}/{name}/revisions": {role.Viewer, d.revisionsTable},
	} {
		serve := func(write func(http.ResponseWriter, *http.Request, table) error) handler {
			return func(w http.ResponseWriter, r *http.Request, who *session.Session) error {
				snap, err := d.snapshot()
				if err != nil {
					return err
				}
				t, err := of.table(r, who, snap)
				if err != nil {
					return err
				}
				return write(w, r, t)
			}
		}
		mux.Handle("GET "+path+".json", d.needs(of.wants, serve(d.writeTableJSON)))
		mux.Handle("GET "+path+".csv", d.needs(of.wants, serve(d.writeTableCSV)))
	}
}

func (d *Dashboard) writeTableJSON(w http.ResponseWriter, r *http.Request, t table) error {
	attachment(w, t.name+".json")
	return d.writeJSON(w, r, map[string]any{"schemaVersion": schemaVersion, t.name: t.rows})
}

func (d *Dashboard) writeJSON(w http.ResponseWriter, r *http.Request, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	d.write(w, r, http.StatusOK, append(data, '\n'))
	return nil
}

func (d *Dashboard) writeTableCSV(w http.ResponseWriter, r *http.Request, t table) error {
	attachment(w, t.name+".csv")
	var buf bytes.Buffer
	out := csv.NewWriter(&buf)
	_ = out.Write(t.columns) // a buffer takes everything
	t.cells(func(cells []string) {
		for i := range cells {
			cells[i] = harmless(cells[i])
		}
		_ = out.Write(cells)
	})
	out.Flush()
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	d.write(w, r, http.StatusOK, buf.Bytes())
	return nil
}

func attachment(w http.ResponseWriter, name string) {
	w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
}

// harmless keeps a spreadsheet from taking what a device calls itself for a
// formula.
func harmless(cell string) string {
	if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
		return "'" + cell
	}
	return cell
}

type deviceRow struct {
	DeviceID      string             `json:"deviceId"`
	State         string             `json:"state"`
	Reason        string             `json:"reason,omitempty"`
	Labels        map[string]string  `json:"labels,omitempty"`
	Inventory     v1alpha1.Inventory `json:"inventory"`
	LastHeartbeat *time.Time         `json:"lastHeartbeat,omitempty"`
	CreatedAt     time.Time          `json:"createdAt"`
}

func devicesTable(r *http.Request, _ *session.Session, snap *fleet.Snapshot) (table, error) {
	q, err := deviceQuery(r.URL.Query())
	if err != nil {
		return table{}, err
	}
	q.Page = 0
	found, err := snap.FindDevices(q)
	if err != nil {
		return table{}, &problem{status: http.StatusBadRequest, title: "Not understood", text: capital(err.Error()) + "."}
	}
	rows := make([]deviceRow, 0, found.Total)
	for _, d := range found.Rows {
		row := deviceRow{DeviceID: d.Name, State: d.State.String(), Reason: d.Reason, Labels: d.Labels, Inventory: d.Status.Inventory, CreatedAt: d.CreationTimestamp.UTC()}
		if !d.Heartbeat.IsZero() {
			at := d.Heartbeat.UTC()
			row.LastHeartbeat = &at
		}
		rows = append(rows, row)
	}
	return table{name: "devices", rows: rows,
		columns: []string{"device", "state", "reason", "last_heartbeat", "arch", "model", "os", "kernel", "agent", "podman", "created", "labels"},
		cells: func(yield func([]string)) {
			for _, d := range found.Rows {
				in := d.Status.Inventory
				yield([]string{d.Name, d.State.String(), d.Reason, timeCell(d.Heartbeat), in.Architecture, in.Model, in.OS, in.Kernel,
					in.AgentVersion, in.PodmanVersion, timeCell(d.CreationTimestamp.Time), labelsCell(d.Labels)})
			}
		}}, nil
}

type problemRow struct {
	Kind       string     `json:"kind"`
	Title      string     `json:"title"`
	Why        string     `json:"why,omitempty"`
	Since      *time.Time `json:"since,omitempty"`
	Devices    int        `json:"devices"`
	Device     string     `json:"device,omitempty"`
	Deployment string     `json:"deployment,omitempty"`
	Selector   string     `json:"selector,omitempty"`
}

func problemsTable(_ *http.Request, _ *session.Session, snap *fleet.Snapshot) (table, error) {
	rows := []problemRow{}
	for _, p := range snap.Problems() {
		row := problemRow{Kind: p.Kind, Title: p.Title, Why: p.Why, Devices: p.Devices, Device: p.Device, Selector: p.Selector}
		if !p.Since.IsZero() {
			at := p.Since.UTC()
			row.Since = &at
		}
		if p.Deployment != nil {
			row.Deployment = p.Deployment.Key()
		}
		rows = append(rows, row)
	}
	return table{name: "problems", rows: rows, columns: []string{"kind", "title", "why", "since", "devices", "device", "deployment", "selector"},
		cells: func(yield func([]string)) {
			for _, p := range rows {
				since := ""
				if p.Since != nil {
					since = timeCell(*p.Since)
				}
				yield([]string{p.Kind, p.Title, p.Why, since, fmt.Sprint(p.Devices), p.Device, p.Deployment, p.Selector})
			}
		}}, nil
}

func timeCell(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func labelsCell(labels map[string]string) string {
	return k8slabels.Set(labels).String()
}
