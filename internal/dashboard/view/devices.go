package view

import (
	"maps"
	"net/url"
	"slices"
	"strconv"

	"github.com/nationtech/fleetctl/internal/dashboard/fleet"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// DeviceList is one page of devices.
type DeviceList struct {
	Query   fleet.DeviceQuery
	Found   fleet.Found[*fleet.Device]
	Problem string // with the query
}

var deviceColumns = []struct{ Title, Sort, Class string }{
	{"Device", "name", ""}, {"State", "state", ""}, {"Last heard", "seen", ""},
	{"Arch", "arch", "roomy"}, {"Model", "model", "roomy"}, {"OS", "os", "roomy"}, {"Agent", "agent", "roomy"}, {"Age", "age", "roomy"},
}

// Filtered says that not all devices were asked for.
func (l DeviceList) Filtered() bool { return l.Query.Selector+l.Query.Name+l.Query.State != "" }

// Link is a URL of the list under a path, with a query.
func (l DeviceList) Link(path string, q fleet.DeviceQuery) string {
	values := url.Values{}
	set := func(name, value string) {
		if value != "" {
			values.Set(name, value)
		}
	}
	set("selector", q.Selector)
	set("name", q.Name)
	set("state", q.State)
	set("sort", q.Sort)
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

func (l DeviceList) pageLink(page int) string {
	q := l.Query
	q.Page = page
	return l.Link("/devices", q)
}

func (l DeviceList) sorted(by string) bool {
	return l.Query.Sort == by || l.Query.Sort == "" && by == "name"
}

// sortLink sorts by a column, and the other way round when it is sorted by it.
func (l DeviceList) sortLink(by string) string {
	q := l.Query
	q.Sort, q.Down, q.Page = by, l.sorted(by) && !q.Down, 0
	return l.Link("/devices", q)
}

func (l DeviceList) ariaSort(by string) string { return ariaSort(l.sorted(by), l.Query.Down) }

func ariaSort(sorted, down bool) string {
	switch {
	case !sorted:
		return "none"
	case down:
		return "descending"
	}
	return "ascending"
}

type label struct{ selector string }

// labelsOf lists labels as selectors, without the one that repeats the id.
func labelsOf(labels map[string]string) []label {
	var out []label
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		if k != v1alpha1.LabelDeviceID {
			out = append(out, label{k + "=" + labels[k]})
		}
	}
	return out
}
