package dashboard

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nationtech/fleetctl/internal/dashboard/fleet"
	"github.com/nationtech/fleetctl/internal/dashboard/session"
	"github.com/nationtech/fleetctl/internal/dashboard/view"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

type deploymentRow struct {
	Name      string                  `json:"name"`
	Namespace string                  `json:"namespace"`
	State     string                  `json:"state"`
	Reason    string                  `json:"reason,omitempty"`
	Images    []string                `json:"images,omitempty"`
	Selector  string                  `json:"selector"`
	Aggregate v1alpha1.Aggregate      `json:"aggregate"`
	Rollout   *v1alpha1.RolloutStatus `json:"rollout,omitempty"`
	CreatedAt time.Time               `json:"createdAt"`
}

func deploymentsTable(r *http.Request, _ *session.Session, snap *fleet.Snapshot) (table, error) {
	q, err := deploymentQuery(r.URL.Query())
	if err != nil {
		return table{}, err
	}
	q.Page = 0
	found, err := snap.FindDeployments(q)
	if err != nil {
		return table{}, &problem{status: http.StatusBadRequest, title: "Not understood", text: capital(err.Error()) + "."}
	}
	rows := make([]deploymentRow, 0, found.Total)
	for _, d := range found.Rows {
		rows = append(rows, deploymentRow{Name: d.Name, Namespace: d.Namespace, State: d.Health.String(), Reason: d.Reason, Images: d.Images,
			Selector: d.Selector.String(), Aggregate: d.Status.Aggregate, Rollout: d.Status.Rollout, CreatedAt: d.CreationTimestamp.UTC()})
	}
	return table{name: "deployments", rows: rows,
		columns: []string{"namespace", "deployment", "state", "reason", "matched", "succeeded", "failed", "pending", "images", "selector", "created"},
		cells: func(yield func([]string)) {
			for _, d := range rows {
				a := d.Aggregate
				yield([]string{d.Namespace, d.Name, d.State, d.Reason, count(a.MatchedDeviceCount), count(a.Succeeded), count(a.Failed), count(a.Pending),
					strings.Join(d.Images, " "), d.Selector, timeCell(d.CreatedAt)})
			}
		}}, nil
}

func count(n int32) string { return strconv.FormatInt(int64(n), 10) }

type workRow struct {
	Deployment string     `json:"deployment"`
	Phase      string     `json:"phase"`
	Message    string     `json:"message,omitempty"`
	Since      *time.Time `json:"since,omitempty"`
	Service    string     `json:"service,omitempty"`
	Image      string     `json:"image,omitempty"`
}

// worksTable has a row for each service on a device.
func (d *Dashboard) worksTable(r *http.Request, _ *session.Session, snap *fleet.Snapshot) (table, error) {
	data, err := d.deviceData(r.Context(), snap, r.PathValue("id"))
	if err != nil {
		return table{}, err
	}
	rows := []workRow{}
	for _, w := range data.Works {
		row := workRow{Deployment: w.Name, Phase: w.Phase()}
		if w.State != nil {
			row.Message, row.Since = w.State.Message, &w.State.Since
		}
		if w.State == nil || len(w.State.Services) == 0 {
			rows = append(rows, row)
			continue
		}
		for _, s := range w.State.Services {
			row.Service, row.Image = s.Name, s.Image
			rows = append(rows, row)
		}
	}
	return table{name: "deployments", rows: rows, columns: []string{"deployment", "phase", "message", "since", "service", "image"},
		cells: func(yield func([]string)) {
			for _, w := range rows {
				since := ""
				if w.Since != nil {
					since = timeCell(*w.Since)
				}
				yield([]string{w.Deployment, w.Phase, w.Message, since, w.Service, w.Image})
			}
		}}, nil
}

type eventRow struct {
	At   time.Time `json:"at"`
	What string    `json:"what"`
	Who  string    `json:"who,omitempty"`
	Bad  bool      `json:"bad,omitempty"`
}

func (d *Dashboard) historyTable(r *http.Request, who *session.Session, _ *fleet.Snapshot) (table, error) {
	rows := []eventRow{}
	for _, e := range d.deviceHistory(r.Context(), who, r.PathValue("id")) {
		rows = append(rows, eventRow{At: e.At.UTC(), What: e.What, Who: e.Who, Bad: e.Bad})
	}
	return table{name: "history", rows: rows, columns: []string{"at", "what", "who"}, cells: func(yield func([]string)) {
		for _, e := range rows {
			yield([]string{timeCell(e.At), e.What, e.Who})
		}
	}}, nil
}

type revisionRow struct {
	Revision int64     `json:"revision"`
	MadeAt   time.Time `json:"madeAt"`
	Images   []string  `json:"images,omitempty"`
	Current  bool      `json:"current,omitempty"`
	LastGood bool      `json:"lastGood,omitempty"`
}

func (d *Dashboard) revisionsTable(r *http.Request, who *session.Session, snap *fleet.Snapshot) (table, error) {
	found, ok := snap.Deployment(r.PathValue("namespace"), r.PathValue("name"))
	if !ok {
		return table{}, errNoPage
	}
	data := view.DeploymentData{Deployment: found}
	d.addHistory(r, who, &data)
	rows := []revisionRow{}
	for _, h := range data.History {
		rows = append(rows, revisionRow{Revision: h.Number, MadeAt: h.At, Images: h.Images, Current: h.Current, LastGood: h.Stable})
	}
	return table{name: "revisions", rows: rows, columns: []string{"revision", "made", "images", "current", "last_good"}, cells: func(yield func([]string)) {
		for _, h := range rows {
			yield([]string{strconv.FormatInt(h.Revision, 10), timeCell(h.MadeAt), strings.Join(h.Images, " "), strconv.FormatBool(h.Current), strconv.FormatBool(h.LastGood)})
		}
	}}, nil
}
