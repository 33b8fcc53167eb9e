package dashboard

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/a-h/templ"

	"github.com/nationtech/fleetctl/internal/dashboard/fleet"
	"github.com/nationtech/fleetctl/internal/dashboard/session"
	"github.com/nationtech/fleetctl/internal/dashboard/view"
)

// maxQuery bounds each field of a query, in bytes.
const maxQuery = 1024

// deviceQuery reads a query as pages and exports take it.
func deviceQuery(q url.Values) (fleet.DeviceQuery, error) {
	if err := checkLengths(q); err != nil {
		return fleet.DeviceQuery{}, err
	}
	page, _ := strconv.Atoi(q.Get("page")) // what is no number is the first
	return fleet.DeviceQuery{
		Selector: strings.TrimSpace(q.Get("selector")), State: q.Get("state"), Name: strings.ToLower(strings.TrimSpace(q.Get("name"))),
		Sort: q.Get("sort"), Down: q.Get("order") == "desc", Page: max(page, 1),
	}, nil
}

func checkLengths(q url.Values) error {
	for name := range q {
		if len(q.Get(name)) > maxQuery {
			return &problem{status: http.StatusBadRequest, title: "Too long", text: fmt.Sprintf("%.20q is longer than %d bytes.", name, maxQuery)}
		}
	}
	return nil
}

// devices opens the list of devices.
func (d *Dashboard) devices(r *http.Request, _ *session.Session, snap *fleet.Snapshot) (screen, error) {
	q, err := deviceQuery(r.URL.Query())
	if err != nil {
		return screen{}, err
	}
	list := view.DeviceList{Query: q}
	s := screen{title: "Devices", active: "/devices"}
	s.body = func(p view.Page) templ.Component { return view.Devices(p, list) }
	if list.Found, err = snap.FindDevices(q); err != nil {
		list.Problem, s.status = capital(err.Error())+".", http.StatusBadRequest
		return s, nil
	}
	s.live = &liveView{key: fmt.Sprintf("devices %#v", q), parts: func(_ context.Context, snap *fleet.Snapshot) []part {
		now := view.DeviceList{Query: q}
		if now.Found, err = snap.FindDevices(q); err != nil {
			return nil
		}
		return []part{{"list", view.DeviceTable(now)}}
	}}
	return s, nil
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
