package dashboard

import (
	"net/http"
	"strconv"
	"time"

	"github.com/a-h/templ"

	"github.com/nationtech/fleetctl/internal/audit"
	"github.com/nationtech/fleetctl/internal/dashboard/fleet"
	"github.com/nationtech/fleetctl/internal/dashboard/session"
	"github.com/nationtech/fleetctl/internal/dashboard/view"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
)

const (
	auditPage   = 200   // records on the page
	auditExport = 5_000 // in a download
)

// auditLog opens the record of what was done.
func (d *Dashboard) auditLog(r *http.Request, _ *session.Session, _ *fleet.Snapshot) (screen, error) {
	result, err := d.queryAudit(r, auditPage)
	if err != nil {
		return screen{}, err
	}
	data := view.AuditData{Result: result, Device: r.FormValue("device"), Who: r.FormValue("who"), Since: r.FormValue("since"), Limit: auditPage}
	return screen{title: "Audit", active: "/audit", body: func(p view.Page) templ.Component { return view.Audit(p, data) }}, nil
}

// queryAudit asks the API: it decides who may.
func (d *Dashboard) queryAudit(r *http.Request, limit int) (audit.Result, error) {
	if err := checkLengths(r.URL.Query()); err != nil {
		return audit.Result{}, err
	}
	q := apiclient.AuditQuery{Device: r.FormValue("device"), User: r.FormValue("who"), Limit: limit}
	if since := r.FormValue("since"); since != "" {
		ago, err := time.ParseDuration(since)
		if err != nil || ago < 0 {
			return audit.Result{}, &problem{status: http.StatusBadRequest, title: "Not understood", text: "since is a duration such as 24h."}
		}
		q.Since = time.Now().Add(-ago)
	}
	answer, err := d.api.Audit(r.Context(), q)
	if err != nil {
		return audit.Result{}, refusedByAPI(err)
	}
	return answer.Result, nil
}

func (d *Dashboard) auditTable(r *http.Request, _ *session.Session, _ *fleet.Snapshot) (table, error) {
	result, err := d.queryAudit(r, auditExport)
	if err != nil {
		return table{}, err
	}
	return table{name: "audit", rows: result.Records,
		columns: []string{"sequence", "at", "who", "subject", "action", "device", "from", "outcome", "hash"},
		cells: func(yield func([]string)) {
			for _, r := range result.Records {
				yield([]string{strconv.FormatUint(r.Sequence, 10), timeCell(r.At), r.Who, r.Subject, r.Action, r.Device, r.From, r.Outcome, r.Hash})
			}
		}}, nil
}
