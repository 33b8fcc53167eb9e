package dashboard

import (
	"context"
	"net/http"

	"github.com/a-h/templ"

	"github.com/nationtech/fleetctl/internal/dashboard/fleet"
	"github.com/nationtech/fleetctl/internal/dashboard/session"
	"github.com/nationtech/fleetctl/internal/dashboard/view"
)

// overview opens the start page.
func (d *Dashboard) overview(r *http.Request, _ *session.Session, snap *fleet.Snapshot) (screen, error) {
	by := r.FormValue("by")
	data := func(snap *fleet.Snapshot) view.OverviewData {
		return view.OverviewData{Snapshot: snap, Grid: snap.Grid(by), By: by, ServerURL: d.cfg.ServerURL}
	}
	return screen{
		title: "Overview", active: "/",
		body: func(p view.Page) templ.Component { return view.Overview(p, data(snap)) },
		live: &liveView{key: "overview by " + by, parts: func(_ context.Context, snap *fleet.Snapshot) []part {
			o := data(snap)
			return []part{{"overview", view.OverviewTop(o)}, {"map", view.Map(o.Grid)}}
		}},
	}, nil
}

// mapNames tells which device each cell of the map is: [[id, state], …] by group.
func (d *Dashboard) mapNames(w http.ResponseWriter, r *http.Request, _ *session.Session) error {
	snap, err := d.snapshot()
	if err != nil {
		return err
	}
	g := snap.Grid(r.FormValue("by"))
	out := struct {
		Groups [][][2]string `json:"groups"`
	}{make([][][2]string, len(g.Groups))}
	for i := range g.Groups {
		for _, x := range g.Groups[i].Devices {
			out.Groups[i] = append(out.Groups[i], [2]string{x.Name, x.State.Title()})
		}
	}
	return d.writeJSON(w, r, out)
}
