package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
)

// PageSize is how many rows a page of a list has.
const PageSize = 50

// DeviceQuery asks for some of the devices. Two equal queries of one snapshot
// are worked out once.
type DeviceQuery struct {
	Selector string // as kubectl takes it; "" for all
	State    string // of State; "" for all
	Name     string // a part of the name
	Sort     string // "name" or of deviceOrders; "" for the name
	Down     bool
	Page     int // from 1; 0 for all rows
}

// Found is one page of what a query found.
type Found[T any] struct {
	Rows  []T
	Total int // on all pages
	Page  int // from 1
	Pages int // at least 1
}

// deviceOrders are the ways to sort devices, but for that by name.
var deviceOrders = map[string]func(a, b *Device) int{
	"state": func(a, b *Device) int { return cmp.Compare(a.State, b.State) },
	"seen":  func(a, b *Device) int { return b.Heartbeat.Compare(a.Heartbeat) },
	"arch": func(a, b *Device) int {
		return strings.Compare(a.Status.Inventory.Architecture, b.Status.Inventory.Architecture)
	},
	"model": func(a, b *Device) int { return strings.Compare(a.Status.Inventory.Model, b.Status.Inventory.Model) },
	"os":    func(a, b *Device) int { return strings.Compare(a.Status.Inventory.OS, b.Status.Inventory.OS) },
	"agent": func(a, b *Device) int {
		return strings.Compare(a.Status.Inventory.AgentVersion, b.Status.Inventory.AgentVersion)
	},
	"age": func(a, b *Device) int { return b.CreationTimestamp.Compare(a.CreationTimestamp.Time) },
}

// FindDevices answers a query. The error says what is wrong with it.
func (s *Snapshot) FindDevices(q DeviceQuery) (Found[*Device], error) {
	selector, err := labels.Parse(q.Selector)
	if err != nil {
		return Found[*Device]{}, err
	}
	state, known := ParseState(q.State)
	if q.State != "" && !known {
		return Found[*Device]{}, fmt.Errorf("there is no state %q", q.State)
	}
	page := q.Page
	q.Page = 0
	rows := once(s, q, func() []*Device {
		if selector.Empty() && q.State == "" && q.Name == "" {
			return sorted(s.Devices, deviceOrders[q.Sort], q.Down)
		}
		var rows []*Device
		for _, d := range s.Devices {
			if (q.State == "" || d.State == state) && strings.Contains(d.Name, q.Name) && selector.Matches(labels.Set(d.Labels)) {
				rows = append(rows, d)
			}
		}
		return sorted(rows, deviceOrders[q.Sort], q.Down)
	})
	return paginate(rows, page), nil
}

// DeploymentQuery asks for some of the deployments.
type DeploymentQuery struct {
	Selector  string // of the deployments' own labels
	Health    string
	Namespace string
	Name      string // a part of the name
	Sort      string // "name" or of deploymentOrders; "" for the name
	Down      bool
	Page      int
}

// deploymentOrders are the ways to sort deployments, but for that by name.
var deploymentOrders = map[string]func(a, b *Deployment) int{
	"health": func(a, b *Deployment) int { return cmp.Compare(a.Health, b.Health) },
	"matched": func(a, b *Deployment) int {
		return cmp.Compare(b.Status.Aggregate.MatchedDeviceCount, a.Status.Aggregate.MatchedDeviceCount)
	},
	"failed":  func(a, b *Deployment) int { return cmp.Compare(b.Status.Aggregate.Failed, a.Status.Aggregate.Failed) },
	"pending": func(a, b *Deployment) int { return cmp.Compare(b.Status.Aggregate.Pending, a.Status.Aggregate.Pending) },
	"age":     func(a, b *Deployment) int { return b.CreationTimestamp.Compare(a.CreationTimestamp.Time) },
}

// FindDeployments answers a query. The error says what is wrong with it.
func (s *Snapshot) FindDeployments(q DeploymentQuery) (Found[*Deployment], error) {
	selector, err := labels.Parse(q.Selector)
	if err != nil {
		return Found[*Deployment]{}, err
	}
	health, known := ParseHealth(q.Health)
	if q.Health != "" && !known {
		return Found[*Deployment]{}, fmt.Errorf("there is no state %q", q.Health)
	}
	page := q.Page
	q.Page = 0
	rows := once(s, q, func() []*Deployment {
		var rows []*Deployment
		for _, d := range s.Deployments {
			if (q.Health == "" || d.Health == health) && (q.Namespace == "" || d.Namespace == q.Namespace) &&
				strings.Contains(d.Name, q.Name) && selector.Matches(labels.Set(d.Labels)) {
				rows = append(rows, d)
			}
		}
		return sorted(rows, deploymentOrders[q.Sort], q.Down)
	})
	return paginate(rows, page), nil
}

// sorted gives rows in an order; equal ones stay as they were. Without an
// order rows are as they are, which is by name.
func sorted[T any](rows []T, order func(a, b T) int, down bool) []T {
	if order == nil && !down {
		return rows
	}
	rows = slices.Clone(rows)
	switch {
	case order == nil:
		slices.Reverse(rows)
	case down:
		slices.SortStableFunc(rows, func(a, b T) int { return order(b, a) })
	default:
		slices.SortStableFunc(rows, order)
	}
	return rows
}

// paginate cuts a page out. A page beyond the end is the last one: rows may
// have gone since the link to it was made.
func paginate[T any](rows []T, page int) Found[T] {
	f := Found[T]{Total: len(rows), Page: 1, Pages: max(1, (len(rows)+PageSize-1)/PageSize)}
	if page == 0 {
		f.Rows = rows
		return f
	}
	f.Page = min(max(page, 1), f.Pages)
	from := (f.Page - 1) * PageSize
	f.Rows = rows[from:min(from+PageSize, len(rows))]
	return f
}
