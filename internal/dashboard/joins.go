package dashboard

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/nationtech/fleetctl/internal/dashboard/fleet"
	"github.com/nationtech/fleetctl/internal/dashboard/session"
	"github.com/nationtech/fleetctl/internal/dashboard/view"
	"github.com/nationtech/fleetctl/internal/identity/role"
	"github.com/nationtech/fleetctl/internal/join"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
)

// joinsLook is how often the page asks who waits.
const joinsLook = time.Second

// joins opens the page of devices that ask to join.
func (d *Dashboard) joins(r *http.Request, who *session.Session, _ *fleet.Snapshot) (screen, error) {
	return screen{
		title: "Join requests", active: "/joins",
		body: func(p view.Page) templ.Component { return view.Joins(p, d.joinsData(r.Context(), p.User)) },
		live: &liveView{
			key: "joins for " + who.Subject + " " + string(who.Token), every: joinsLook,
			parts: func(ctx context.Context, _ *fleet.Snapshot) []part {
				return []part{{"joins", view.JoinList(d.joinsData(ctx, &view.User{CanAdmin: who.Allows(role.Admin)}))}}
			},
		},
	}, nil
}

func (d *Dashboard) joinsData(ctx context.Context, u *view.User) view.JoinsData {
	ctx, cancel := context.WithTimeout(ctx, apiPatience)
	defer cancel()
	data := view.JoinsData{User: u, ServerURL: d.cfg.ServerURL}
	list, err := d.api.Joins(ctx)
	if err != nil {
		d.cfg.Log.Warn("join requests not listed", "op", "dashboard", "error", err)
		data.Problem = "Who waits cannot be read now; the server’s log says why."
	}
	data.Requests = list.Requests
	return data
}

func (d *Dashboard) approve(w http.ResponseWriter, r *http.Request, who *session.Session) error {
	device := r.PathValue("id")
	if _, err := d.api.ApproveJoin(r.Context(), device, join.Approval{Code: strings.TrimSpace(r.PostFormValue("code"))}); err != nil {
		return refusedByAPI(err)
	}
	d.done(w, r, who, device+" is a device now.")
	return nil
}

func (d *Dashboard) deny(w http.ResponseWriter, r *http.Request, who *session.Session) error {
	denied, err := d.api.DenyJoin(r.Context(), r.PathValue("id"))
	if err != nil {
		return refusedByAPI(err)
	}
	d.done(w, r, who, fmt.Sprintf("%d turned away.", denied.Denied))
	return nil
}

func (d *Dashboard) joinsTable(r *http.Request, _ *session.Session, _ *fleet.Snapshot) (table, error) {
	list, err := d.api.Joins(r.Context())
	if err != nil {
		return table{}, refusedByAPI(err)
	}
	rows := list.Requests
	if rows == nil {
		rows = []api.Join{}
	}
	return table{name: "requests", rows: rows, columns: []string{"device", "machine", "address", "asked", "expires", "hostname", "model", "os", "arch"},
		cells: func(yield func([]string)) {
			for _, j := range rows {
				yield([]string{j.DeviceID, j.MachineID, j.Address, timeCell(j.Asked), timeCell(j.Expires), j.Facts.Hostname, j.Facts.Model, j.Facts.OS, j.Facts.Architecture})
			}
		}}, nil
}
