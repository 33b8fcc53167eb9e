package view

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/nationtech/fleetctl/internal/dashboard/fleet"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// DeploymentList is one page of deployments.
type DeploymentList struct {
	Query   fleet.DeploymentQuery
	Found   fleet.Found[*fleet.Deployment]
	Problem string
}

var deploymentColumns = []struct{ Title, Sort, Class string }{
	{"Deployment", "name", ""}, {"State", "health", ""}, {"Progress", "", ""}, {"Devices", "matched", "num"},
	{"Failed", "failed", "num roomy"}, {"Pending", "pending", "num roomy"}, {"Images", "", "roomy"}, {"Age", "age", "roomy"},
}

// Filtered says that not all deployments were asked for.
func (l DeploymentList) Filtered() bool {
	return l.Query.Selector+l.Query.Name+l.Query.Health+l.Query.Namespace != ""
}

// Link is a URL of the list under a path, with a query.
func (l DeploymentList) Link(path string, q fleet.DeploymentQuery) string {
	values := url.Values{}
	for name, value := range map[string]string{"selector": q.Selector, "name": q.Name, "namespace": q.Namespace, "health": q.Health, "sort": q.Sort} {
		if value != "" {
			values.Set(name, value)
		}
	}
	if q.Down {
		values.Set("order", "desc")
	}
	if q.Page > 1 {
		values.Set("page", strconv.Itoa(q.Page))
	}
	if len(values) == 0 {
		return path
	}
	return path + "?" + values.Encode()
}

func (l DeploymentList) pageLink(page int) string {
	q := l.Query
	q.Page = page
	return l.Link("/deployments", q)
}

func (l DeploymentList) sorted(by string) bool {
	return l.Query.Sort == by || l.Query.Sort == "" && by == "name"
}

func (l DeploymentList) sortLink(by string) string {
	q := l.Query
	q.Sort, q.Down, q.Page = by, l.sorted(by) && !q.Down, 0
	return l.Link("/deployments", q)
}

func (l DeploymentList) ariaSort(by string) string {
	return ariaSort(by != "" && l.sorted(by), l.Query.Down)
}

// bar is a stack of widths, in hundredths of a percent.
type bar struct {
	class string
	x, w  string
}

// bars shows how far a deployment is: what runs, what failed, what is to come.
func bars(a v1alpha1.Aggregate) []bar {
	total := float64(a.MatchedDeviceCount)
	if total == 0 {
		return nil
	}
	var out []bar
	at := 0.0
	for _, part := range []struct {
		class string
		n     int32
	}{{"running", a.Succeeded}, {"failing", a.Failed}, {"rolling", a.Pending}} {
		if part.n == 0 {
			continue
		}
		w := 100 * float64(part.n) / total
		out = append(out, bar{part.class, fmt.Sprintf("%.2f", at), fmt.Sprintf("%.2f", w)})
		at += w
	}
	return out
}

func barText(a v1alpha1.Aggregate) string {
	return fmt.Sprintf("%d of %d run it, %d failed, %d pending", a.Succeeded, a.MatchedDeviceCount, a.Failed, a.Pending)
}

// shortImage leaves the registry and path out: what differs is at the end.
func shortImage(image string) string {
	if i := strings.LastIndexByte(image, '/'); i >= 0 {
		return image[i+1:]
	}
	return image
}
