package dashboard

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/a-h/templ"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/nationtech/fleetctl/internal/dashboard/fleet"
	"github.com/nationtech/fleetctl/internal/dashboard/session"
	"github.com/nationtech/fleetctl/internal/dashboard/view"
	"github.com/nationtech/fleetctl/internal/identity/role"
	"github.com/nationtech/fleetctl/operator/rollout/control"
)

func deploymentQuery(q url.Values) (fleet.DeploymentQuery, error) {
	if err := checkLengths(q); err != nil {
		return fleet.DeploymentQuery{}, err
	}
	page, _ := strconv.Atoi(q.Get("page")) // what is no number is the first
	return fleet.DeploymentQuery{
		Selector: strings.TrimSpace(q.Get("selector")), Health: q.Get("health"), Namespace: strings.TrimSpace(q.Get("namespace")),
		Name: strings.ToLower(strings.TrimSpace(q.Get("name"))), Sort: q.Get("sort"), Down: q.Get("order") == "desc", Page: max(page, 1),
	}, nil
}

// deployments opens the list of deployments.
func (d *Dashboard) deployments(r *http.Request, _ *session.Session, snap *fleet.Snapshot) (screen, error) {
	q, err := deploymentQuery(r.URL.Query())
	if err != nil {
		return screen{}, err
	}
	list := view.DeploymentList{Query: q}
	s := screen{title: "Deployments", active: "/deployments"}
	s.body = func(p view.Page) templ.Component { return view.Deployments(p, list) }
	if list.Found, err = snap.FindDeployments(q); err != nil {
		list.Problem, s.status = capital(err.Error())+".", http.StatusBadRequest
		return s, nil
	}
	s.live = &liveView{key: fmt.Sprintf("deployments %#v", q), parts: func(_ context.Context, snap *fleet.Snapshot) []part {
		found, err := snap.FindDeployments(q)
		if err != nil {
			return nil
		}
		return []part{{"list", view.DeploymentTable(view.DeploymentList{Query: q, Found: found})}}
	}}
	return s, nil
}

// deployment opens the page of one deployment.
func (d *Dashboard) deployment(r *http.Request, who *session.Session, snap *fleet.Snapshot) (screen, error) {
	namespace, name, by := r.PathValue("namespace"), r.PathValue("name"), r.FormValue("by")
	data, ok := deploymentData(snap, namespace, name, by)
	if !ok {
		return screen{}, &problem{status: http.StatusNotFound, title: "No such deployment", text: fmt.Sprintf("There is no deployment %.64q in namespace %.64q.", name, namespace),
			hint: "It may have been removed since you followed the link.", link: "/deployments", linkText: "All deployments"}
	}
	return screen{
		title: name, active: "/deployments",
		body: func(p view.Page) templ.Component {
			d.addHistory(r, who, &data)
			return view.Deployment(p, data)
		},
		live: &liveView{key: fmt.Sprintf("deployment %s/%s by %s for operators %t", namespace, name, by, who.Allows(role.Operator)), parts: func(_ context.Context, snap *fleet.Snapshot) []part {
			now, ok := deploymentData(snap, namespace, name, by)
			if !ok {
				return nil
			}
			return []part{{"deployment-top", view.DeploymentTop(now)}, {"actions", view.RolloutActions(&view.User{CanOperate: who.Allows(role.Operator)}, now)},
				{"rollout", view.RolloutProgress(now)},
				{"groups", view.DeviceGroups(now)}, {"conditions", view.Conditions(now.Deployment.Status.Conditions)}}
		}},
	}, nil
}

// maxGroups is how many groups a deployment's page names.
const maxGroups = 48

func deploymentData(snap *fleet.Snapshot, namespace, name, by string) (view.DeploymentData, bool) {
	found, ok := snap.Deployment(namespace, name)
	if !ok {
		return view.DeploymentData{}, false
	}
	data := view.DeploymentData{Deployment: found}
	for _, f := range snap.Facets() {
		data.Facets = append(data.Facets, f.Key)
	}
	switch {
	case slices.Contains(data.Facets, by):
		data.GroupBy = by
	case found.Spec.Rollout != nil && slices.Contains(data.Facets, found.Spec.Rollout.GroupBy):
		data.GroupBy = found.Spec.Rollout.GroupBy
	case len(data.Facets) > 0:
		data.GroupBy = data.Facets[0]
	}
	devices := snap.DevicesOf(found)
	data.Devices = len(devices)
	index := map[string]int{}
	for _, x := range devices {
		v, has := x.Labels[data.GroupBy]
		g := view.DeviceGroup{Value: v, Selector: found.Selector.String() + "," + data.GroupBy + "=" + v}
		switch {
		case data.GroupBy == "":
			g.Value, g.Selector = "all", found.Selector.String()
		case !has:
			g.Value, g.Selector = "without the label", found.Selector.String()+",!"+data.GroupBy
		}
		i, known := index[g.Selector]
		if !known {
			i = len(data.Groups)
			index[g.Selector] = i
			data.Groups = append(data.Groups, g)
		}
		data.Groups[i].Devices++
		switch x.State {
		case fleet.Ready:
			data.Groups[i].Ready++
		case fleet.Offline:
			data.Groups[i].Offline++
		}
	}
	for i := range data.Groups { // as people would type it
		if s, err := labels.Parse(data.Groups[i].Selector); err == nil {
			data.Groups[i].Selector = s.String()
		}
	}
	slices.SortFunc(data.Groups, func(a, b view.DeviceGroup) int { return strings.Compare(a.Value, b.Value) })
	data.Groups = data.Groups[:min(len(data.Groups), maxGroups)]
	return data, true
}

// addHistory reads the deployment's revisions, as the person.
func (d *Dashboard) addHistory(r *http.Request, who *session.Session, data *view.DeploymentData) {
	ctx, cancel := context.WithTimeout(r.Context(), apiPatience)
	defer cancel()
	c, err := d.kubeAs(who)
	var history []control.Revision
	if err == nil {
		history, err = control.History(ctx, c, data.Deployment.Deployment)
	}
	if err != nil {
		d.cfg.Log.Warn("history not read", "op", "dashboard", "deployment", data.Deployment.Key(), "error", err)
		data.HistoryProblem = "The revisions cannot be read now; the server’s log says why."
		return
	}
	byNumber := map[int64]*control.Revision{}
	for i := range history {
		h := &history[i]
		byNumber[h.Number] = h
		data.History = append(data.History, view.Revision{Number: h.Number, At: h.CreatedAt, Images: h.Images(), Current: h.Current, Stable: h.Stable})
	}
	from, to := number(r.FormValue("from")), number(r.FormValue("to"))
	if byNumber[from] != nil && byNumber[to] != nil {
		data.Diff = &view.Diff{From: from, To: to, Lines: d.diffScores(&byNumber[from].Score, &byNumber[to].Score)}
	}
}

func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return -1
	}
	return n
}
