package fleet

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

const (
	maxFacetValues = 48 // a label with more values groups nothing
	maxFacets      = 24
)

// Facet is a label whose values divide the fleet into groups worth seeing.
type Facet struct {
	Key    string
	Values []string // sorted
}

// Facets lists the labels that a fleet can be grouped by, by name.
func (s *Snapshot) Facets() []Facet { return s.facets() }

func (s *Snapshot) findFacets() []Facet {
	values := map[string]map[string]int{}
	for _, d := range s.Devices {
		for k, v := range d.Labels {
			seen := values[k]
			if seen == nil {
				seen = map[string]int{}
				values[k] = seen
			}
			if len(seen) <= maxFacetValues {
				seen[v]++
			}
		}
	}
	var out []Facet
	for k, seen := range values {
		if k != v1alpha1.LabelDeviceID && len(seen) > 1 && len(seen) <= maxFacetValues {
			out = append(out, Facet{Key: k, Values: slices.Sorted(maps.Keys(seen))})
		}
	}
	slices.SortFunc(out, func(a, b Facet) int { return strings.Compare(a.Key, b.Key) })
	if len(out) > maxFacets {
		// The coarsest tell the most at a glance.
		slices.SortStableFunc(out, func(a, b Facet) int { return cmp.Compare(len(a.Values), len(b.Values)) })
		out = out[:maxFacets]
		slices.SortFunc(out, func(a, b Facet) int { return strings.Compare(a.Key, b.Key) })
	}
	return out
}
