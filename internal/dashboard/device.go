package dashboard

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/a-h/templ"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/dashboard/fleet"
	"github.com/nationtech/fleetctl/internal/dashboard/session"
	"github.com/nationtech/fleetctl/internal/dashboard/view"
	"github.com/nationtech/fleetctl/internal/identity/role"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
	"github.com/nationtech/fleetctl/internal/wire"
)

const (
	// deviceLook is how often a device's page asks for what only the device
	// and its connection say.
	deviceLook    = 500 * time.Millisecond
	historyLength = 20
	apiPatience   = 3 * time.Second
)

// device opens the page of one device.
func (d *Dashboard) device(r *http.Request, who *session.Session, snap *fleet.Snapshot) (screen, error) {
	name := r.PathValue("id")
	data, err := d.deviceData(r.Context(), snap, name)
	if err != nil {
		return screen{}, err
	}
	if target := r.FormValue("logs"); target != "" && who.Allows(role.Operator) {
		deployment, service, _ := strings.Cut(target, "/")
		if err := (wire.Target{Deployment: deployment, Service: service}).Validate(); err == nil {
			data.Logs = &view.LogTarget{Device: name, Deployment: deployment, Service: service}
		}
	}
	return screen{
		title: name, active: "/devices",
		body: func(p view.Page) templ.Component {
			data.History = d.deviceHistory(r.Context(), who, name)
			return view.Device(p, data)
		},
		live: &liveView{
			// What the server tells of a device it tells this person.
			key: fmt.Sprintf("device %s for %s %s", name, who.Subject, string(who.Token)), every: deviceLook,
			parts: func(ctx context.Context, snap *fleet.Snapshot) []part {
				now, err := d.deviceData(ctx, snap, name)
				if err != nil {
					return nil // it is gone: the page stays as it was
				}
				now.User.CanOperate = who.Allows(role.Operator)
				if now.Known != nil && now.Known.Connected {
					now.SilentSince = d.probes.look(ctx, name)
				}
				return []part{{"device-top", view.DeviceTop(now)}, {"works", view.DeviceWorks(now)}, {"conditions", view.DeviceConditions(now)}}
			},
		},
	}, nil
}

func (d *Dashboard) deviceData(ctx context.Context, snap *fleet.Snapshot, name string) (view.DeviceData, error) {
	found, ok := snap.Device(name)
	if !ok {
		return view.DeviceData{}, &problem{status: http.StatusNotFound, title: "No such device", text: fmt.Sprintf("There is no device %.64q.", name),
			hint: "It may have been removed since you followed the link.", link: "/devices", linkText: "All devices"}
	}
	data := view.DeviceData{Device: found, User: &view.User{}}
	ctx, cancel := context.WithTimeout(ctx, apiPatience)
	defer cancel()
	known, err := d.api.Device(ctx, name)
	if err == nil {
		data.Known = &known
	} else if apiclient.Code(err) != api.CodeNotFound && ctx.Err() == nil {
		d.cfg.Log.Warn("device not looked up", "op", "dashboard", "device", name, "error", err)
	}
	data.Works = view.Works(snap.DeploymentsOf(found), known.State) // no state where it is not known
	return data, nil
}

// deviceHistory is what happened with a device, as far as the person may know.
func (d *Dashboard) deviceHistory(ctx context.Context, who *session.Session, name string) []view.Event {
	ctx, cancel := context.WithTimeout(ctx, apiPatience)
	defer cancel()
	var out []view.Event
	if who.Allows(role.Admin) {
		if records, err := d.api.Audit(ctx, apiclient.AuditQuery{Device: name, Limit: historyLength}); err == nil {
			out = view.AuditEvents(records.Records)
		}
	}
	if c, err := d.kubeAs(who); err == nil {
		list := &corev1.EventList{}
		// Events of what has no namespace are in this one.
		if err := c.List(ctx, list, client.InNamespace(corev1.NamespaceDefault), client.MatchingFields{"involvedObject.kind": "Device", "involvedObject.name": name}); err != nil && ctx.Err() == nil {
			d.cfg.Log.Warn("events not listed", "op", "dashboard", "device", name, "error", err)
		}
		for i := range list.Items {
			e := &list.Items[i]
			at := e.LastTimestamp.Time
			if at.IsZero() {
				at = e.EventTime.Time
			}
			out = append(out, view.Event{At: at, What: e.Reason + ": " + e.Message, Who: e.Source.Component, Bad: e.Type == corev1.EventTypeWarning})
		}
	}
	view.SortEvents(out)
	return out[:min(len(out), historyLength)]
}
