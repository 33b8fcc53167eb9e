// Package match keeps which selector matches which device. A change of one
// device or one selector costs about as much as what it touches, not devices
// times selectors. It knows labels and nothing of what they belong to, and is
// not safe for concurrent use.
package match

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// Change is how one event changed the relation.
type Change struct {
	Joined, Left []string // sorted
}

// Index holds devices by their labels, selectors by name, and their matches.
type Index struct {
	devices   map[string]labels.Set
	selectors map[string]*entry

	carriers postings // devices that satisfy a term
	anchored postings // selectors that are found by a term
	free     set      // selectors without a positive term: met by anything

	ofDevice map[string]set      // matching selectors
	listed   map[string][]string // the same, sorted, once asked for: reports ask all the time
}

type set map[string]struct{}

// term is a positive statement about one label: key=value, or key exists.
type term struct {
	key, value string
	exists     bool
}

type entry struct {
	selector labels.Selector
	anchor   []term // one of these holds for every match; none: free
	devices  set
}

// NewIndex gives an empty index.
func NewIndex() *Index {
	return &Index{
		devices: map[string]labels.Set{}, selectors: map[string]*entry{},
		carriers: postings{}, anchored: postings{}, free: set{},
		ofDevice: map[string]set{}, listed: map[string][]string{},
	}
}

// SetDevice sets the labels of a device and gives the selectors that it joined
// and left.
func (x *Index) SetDevice(id string, l map[string]string) Change {
	old, known := x.devices[id]
	if known && maps.Equal(old, l) {
		return Change{}
	}
	for t := range terms(old) {
		x.carriers.remove(t, id)
	}
	x.devices[id] = maps.Clone(l)
	for t := range terms(l) {
		x.carriers.add(t, id)
	}
	now := set{}
	for name := range x.candidates(l) {
		if x.selectors[name].selector.Matches(labels.Set(l)) {
			now[name] = struct{}{}
		}
	}
	change := diff(x.ofDevice[id], now)
	for _, name := range change.Joined {
		x.selectors[name].devices[id] = struct{}{}
	}
	for _, name := range change.Left {
		delete(x.selectors[name].devices, id)
	}
	x.ofDevice[id] = now
	delete(x.listed, id)
	return change
}

// RemoveDevice forgets a device and gives the selectors that it left.
func (x *Index) RemoveDevice(id string) Change {
	for t := range terms(x.devices[id]) {
		x.carriers.remove(t, id)
	}
	change := diff(x.ofDevice[id], nil)
	for _, name := range change.Left {
		delete(x.selectors[name].devices, id)
	}
	delete(x.devices, id)
	delete(x.ofDevice, id)
	delete(x.listed, id)
	return change
}

// SetSelector sets a selector and gives the devices that joined and left it.
func (x *Index) SetSelector(name string, s labels.Selector) Change {
	old := x.selectors[name]
	if old != nil && old.selector.String() == s.String() {
		return Change{}
	}
	var before set
	if old != nil {
		before = old.devices
		x.unanchor(name, old)
	}
	e := &entry{selector: s, anchor: x.anchorOf(s), devices: set{}}
	x.selectors[name] = e
	if len(e.anchor) == 0 {
		x.free[name] = struct{}{}
	}
	for _, t := range e.anchor {
		x.anchored.add(t, name)
	}
	for id := range x.within(e.anchor) {
		if s.Matches(x.devices[id]) {
			e.devices[id] = struct{}{}
		}
	}
	change := diff(before, e.devices)
	for _, id := range change.Joined {
		x.ofDevice[id][name] = struct{}{}
		delete(x.listed, id)
	}
	for _, id := range change.Left {
		delete(x.ofDevice[id], name)
		delete(x.listed, id)
	}
	return change
}

// RemoveSelector forgets a selector and gives the devices that it matched.
func (x *Index) RemoveSelector(name string) Change {
	e := x.selectors[name]
	if e == nil {
		return Change{}
	}
	x.unanchor(name, e)
	delete(x.selectors, name)
	for id := range e.devices {
		delete(x.ofDevice[id], name)
		delete(x.listed, id)
	}
	return diff(e.devices, nil)
}

// Devices lists the devices that a selector matches, sorted.
func (x *Index) Devices(name string) []string {
	if e := x.selectors[name]; e != nil {
		return slices.Sorted(maps.Keys(e.devices))
	}
	return nil
}

// Selectors lists the selectors that match a device, sorted. The list is not to
// be changed.
func (x *Index) Selectors(id string) []string {
	names, known := x.listed[id]
	if matching := x.ofDevice[id]; !known && matching != nil {
		names = slices.Sorted(maps.Keys(matching))
		x.listed[id] = names
	}
	return names
}

func (x *Index) unanchor(name string, e *entry) {
	delete(x.free, name)
	for _, t := range e.anchor {
		x.anchored.remove(t, name)
	}
}

// candidates are the selectors that could match these labels.
func (x *Index) candidates(l map[string]string) set {
	found := maps.Clone(x.free)
	for t := range terms(l) {
		maps.Copy(found, x.anchored[t])
	}
	return found
}

// within are the devices that an anchor leaves to look at.
func (x *Index) within(anchor []term) set {
	found := set{}
	if len(anchor) == 0 {
		for id := range x.devices {
			found[id] = struct{}{}
		}
	}
	for _, t := range anchor {
		maps.Copy(found, x.carriers[t])
	}
	return found
}

// anchorOf picks the requirement that the fewest devices satisfy. One that
// says what must not be cannot be looked up and is no anchor.
func (x *Index) anchorOf(s labels.Selector) []term {
	requirements, selectable := s.Requirements()
	if !selectable {
		return nil
	}
	var best []term
	fewest := -1
	for _, r := range requirements {
		var anchor []term
		switch r.Operator() {
		case selection.Equals, selection.DoubleEquals, selection.In:
			for _, value := range r.ValuesUnsorted() {
				anchor = append(anchor, term{key: r.Key(), value: value})
			}
		case selection.Exists:
			anchor = append(anchor, term{key: r.Key(), exists: true})
		default:
			continue
		}
		n := 0
		for _, t := range anchor {
			n += len(x.carriers[t])
		}
		if fewest < 0 || n < fewest {
			best, fewest = anchor, n
		}
	}
	return best
}

// terms are the terms that labels satisfy.
func terms(l map[string]string) map[term]struct{} {
	out := make(map[term]struct{}, 2*len(l))
	for key, value := range l {
		out[term{key: key, value: value}] = struct{}{}
		out[term{key: key, exists: true}] = struct{}{}
	}
	return out
}

// Label gives the value of a device's label; "" when it has none.
func (x *Index) Label(id, key string) string { return x.devices[id][key] }
