package dashboard

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/nationtech/fleetctl/internal/dashboard/session"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
	"github.com/nationtech/fleetctl/internal/wire"
)

// runningPatience is how long a page waits for containers to stop or start: they
// may take minutes, and browsers and the proxies before us give up sooner.
const runningPatience = 20 * time.Second

// runningAction is something that has a deployment's containers on one device
// run or not.
type runningAction struct {
	done, goesOn string // after the deployment's name: "stopped", "is being stopped"
	do           func(*apiclient.Client, context.Context, string, wire.Target) error
}

var runningActions = map[string]runningAction{
	"restart": {"was restarted", "is being restarted", (*apiclient.Client).Restart},
	"stop":    {"was stopped", "is being stopped", (*apiclient.Client).Stop},
	"start":   {"was started", "is being started", (*apiclient.Client).Start},
}

// running asks the device through the HTTPS API, which checks the role and
// keeps the record.
func (d *Dashboard) running(a runningAction) handler {
	return func(w http.ResponseWriter, r *http.Request, who *session.Session) error {
		device := r.PathValue("id")
		t := wire.Target{Deployment: r.PostFormValue("deployment"), Service: r.PostFormValue("service")}
		if err := t.Validate(); err != nil {
			return &problem{status: http.StatusBadRequest, title: "Not understood", text: capital(err.Error()) + "."}
		}
		ctx, cancel := context.WithTimeout(r.Context(), runningPatience)
		defer cancel()
		err := a.do(d.api, ctx, device, t)
		switch {
		case errors.Is(ctx.Err(), context.DeadlineExceeded) && apiclient.Code(err) == "":
			// The device goes on with what it began.
			d.done(w, r, who, t.Deployment+" "+a.goesOn+" on "+device+"; this takes longer than usual. The device’s page shows when it is done.")
			return nil
		case err != nil:
			return refusedByAPI(err)
		}
		d.done(w, r, who, t.Deployment+" "+a.done+" on "+device+".")
		return nil
	}
}
