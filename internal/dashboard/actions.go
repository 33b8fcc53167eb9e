package dashboard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/audit"
	"github.com/nationtech/fleetctl/internal/dashboard/session"
	"github.com/nationtech/fleetctl/internal/dashboard/view"
	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/identity/role"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
	"github.com/nationtech/fleetctl/operator/rollout/control"
)

// AuditLog keeps what was done.
type AuditLog interface {
	Usable() error
	Append(r audit.Record, at time.Time) (audit.Record, error)
}

// actions are what can be done. Each checks the role and where the request
// comes from; the HTTPS API and Kubernetes check the role again.
func (d *Dashboard) actions(mux *http.ServeMux) {
	mux.Handle("POST /devices/{id}/ping", d.does(role.Operator, d.ping))
	for name, action := range runningActions {
		mux.Handle("POST /devices/{id}/"+name, d.does(role.Operator, d.running(action)))
	}
	for name, action := range map[string]rolloutAction{
		"pause":  {"rollout pause", "Paused.", "It is paused already.", control.Pause},
		"resume": {"rollout resume", "Resumed.", "It is not paused.", control.Resume},
		"retry": {"rollout retry", "Trying again.", "", func(ctx context.Context, c client.Client, key types.NamespacedName) (bool, error) {
			return true, control.Retry(ctx, c, key)
		}},
		"restart": {"rollout restart", "Every container is made anew.", "", func(ctx context.Context, c client.Client, key types.NamespacedName) (bool, error) {
			return true, control.Restart(ctx, c, key, time.Now())
		}},
	} {
		mux.Handle("POST /deployments/{namespace}/{name}/"+name, d.does(role.Operator, d.rollout(action)))
	}
	mux.Handle("POST /joins/{id}/approve", d.does(role.Admin, d.approve))
	mux.Handle("POST /joins/{id}/deny", d.does(role.Admin, d.deny))
	mux.Handle("POST /deployments/{namespace}/{name}/undo", d.does(role.Operator, d.undo))
}

func (d *Dashboard) ping(w http.ResponseWriter, r *http.Request, who *session.Session) error {
	p, err := d.api.Ping(r.Context(), r.PathValue("id"))
	if err != nil {
		return refusedByAPI(err)
	}
	d.done(w, r, who, fmt.Sprintf("%s answered in %.0f ms.", p.DeviceID, p.RoundTripMillis))
	return nil
}

// refusedByAPI is the API's refusal as people are told it.
func refusedByAPI(err error) error {
	var refusal *apiclient.Error
	if !errors.As(err, &refusal) {
		return err
	}
	return &problem{status: refusal.Status, title: "Not done", text: capital(refusal.Body.Message) + ".", hint: hint.Of(err)}
}

// done says that an action was done: in place, or on a page of its own to
// those without script.
func (d *Dashboard) done(w http.ResponseWriter, r *http.Request, who *session.Session, text string) {
	if r.Header.Get("HX-Request") != "" {
		d.render(w, r, http.StatusOK, view.Outcome(true, text, ""))
		return
	}
	page := d.frame(who)
	page.Title = "Done"
	back := session.LocalPath(r.URL.Path)
	if i := len(back) - 1; i > 0 {
		back = parent(back)
	}
	d.render(w, r, http.StatusOK, view.Notice(page, view.NoticeText{Title: "Done", Text: text, Link: back, LinkText: "Back"}))
}

func parent(path string) string {
	for i := len(path) - 1; i > 0; i-- {
		if path[i] == '/' {
			return path[:i]
		}
	}
	return "/"
}

// rolloutAction is something to do with a rollout.
type rolloutAction struct {
	record, done, already string
	do                    func(context.Context, client.Client, types.NamespacedName) (changed bool, err error)
}

func (d *Dashboard) rollout(a rolloutAction) handler {
	return func(w http.ResponseWriter, r *http.Request, who *session.Session) error {
		key := types.NamespacedName{Namespace: r.PathValue("namespace"), Name: r.PathValue("name")}
		text := a.done
		err := d.recorded(r, who, a.record+" "+key.String(), func(c client.Client) error {
			changed, err := a.do(r.Context(), c, key)
			if !changed && err == nil {
				text = a.already
			}
			return err
		})
		if err != nil {
			return err
		}
		d.done(w, r, who, text)
		return nil
	}
}

func (d *Dashboard) undo(w http.ResponseWriter, r *http.Request, who *session.Session) error {
	key := types.NamespacedName{Namespace: r.PathValue("namespace"), Name: r.PathValue("name")}
	to, err := strconv.ParseInt(r.PostFormValue("revision"), 10, 64)
	if err != nil || to < 0 {
		return &problem{status: http.StatusBadRequest, title: "Not understood", text: fmt.Sprintf("%.20q is no revision.", r.PostFormValue("revision"))}
	}
	var chosen control.Revision
	err = d.recorded(r, who, fmt.Sprintf("rollout undo %s to %d", key, to), func(c client.Client) (err error) {
		chosen, err = control.Undo(r.Context(), c, key, to)
		return err
	})
	if err != nil {
		return err
	}
	d.done(w, r, who, fmt.Sprintf("%s goes back to revision %d.", key.Name, chosen.Number))
	return nil
}

// recorded does something in Kubernetes as the person, with a record of it:
// what cannot be recorded is not done.
func (d *Dashboard) recorded(r *http.Request, who *session.Session, action string, do func(client.Client) error) error {
	if err := d.cfg.Audit.Usable(); err != nil {
		return err
	}
	c, err := d.kubeAs(who)
	if err == nil {
		err = do(c)
	}
	outcome := "ok"
	if err != nil {
		outcome = err.Error()
	}
	from, _, _ := net.SplitHostPort(r.RemoteAddr)
	record, failed := d.cfg.Audit.Append(audit.Record{Who: who.Name, Subject: who.Subject, Action: action, From: from, Outcome: outcome}, time.Now())
	if failed != nil {
		return failed
	}
	d.cfg.Log.Info("audit", "op", action, "who", who.Name, "from", from, "outcome", outcome, "record", record.Sequence, "hash", record.Hash)
	switch {
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return &problem{status: http.StatusForbidden, title: "Not allowed", text: "Kubernetes does not let " + who.Name + " do this.", hint: "It takes the role " + role.Operator + "."}
	case apierrors.IsNotFound(err):
		return &problem{status: http.StatusNotFound, title: "No such deployment", text: "The deployment is not there any more."}
	case errors.Is(err, control.ErrNoRollout), errors.Is(err, control.ErrNotFailed), errors.Is(err, control.ErrNoRevision), errors.Is(err, control.ErrCurrent):
		return &problem{status: http.StatusConflict, title: "Not done", text: capital(err.Error()) + "."}
	}
	return err
}
